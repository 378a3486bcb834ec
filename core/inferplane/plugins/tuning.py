"""Measured preferences: which candidate was fastest for a request on a device, as data.

`inferplane tune --compare` writes the file, planning reads it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inferplane.errors import UserError
from inferplane.spec import Request

FORMAT = 1
Key = tuple[str, str, str]
"""Device profile, op, `describe()` of the request."""


@dataclass(frozen=True)
class Tuning:
    """order: candidate names, best first. source: the file; "" for none."""

    order: Mapping[Key, tuple[str, ...]] = field(default_factory=dict)
    source: str = ""

    def rank(self, request: Request, name: str) -> int:
        """Position of `name` in the measured order; all that were not measured come last, alike."""
        names = self.order.get(key_of(request), ())
        return names.index(name) if name in names else len(names)


NO_TUNING = Tuning()


def key_of(request: Request) -> Key:
    return request.device.profile, request.op, request.describe()


def default_file() -> Path:
    """Under XDG_CACHE_HOME or ~/.cache, as the CPU's compiled kernels are."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # never raises
    return Path(base) / "inferplane" / "tuning.json"


def load_tuning(file: str | None) -> Tuning:
    """file: None for the default one, where it exists; "none" for none. Raises UserError for one
    that cannot be read, with what is wrong."""
    path = Path(file) if file else default_file()
    if file == "none" or not (file or os.path.isfile(path)):
        return NO_TUNING
    order = {key: _names(entry) for key, entry in read_entries(path).items()}
    return Tuning(order, str(path))


def read_entries(path: Path) -> dict[Key, dict[str, Any]]:
    """What the file holds."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise ValueError(f"its format is {document['format']}, this version reads {FORMAT}")
        found = {(e["device"], e["op"], e["request"]): e for e in document["entries"]}
        for entry in found.values():
            _names(entry)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"--tuning {path}: {type(error).__name__}: {error}; make it with inferplane tune "
            "--compare, or give --tuning none"
        ) from error
    return found


def _names(entry: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(row["kernel"]) for row in entry["kernels"])
