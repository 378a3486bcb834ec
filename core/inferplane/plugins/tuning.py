"""Measured preferences: which candidate was fastest for a request on a device, as data.

`inferplane tune --compare` writes the file, planning reads it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from importlib import metadata
from math import inf
from pathlib import Path
from typing import Any

from inferplane import __version__
from inferplane.errors import UserError
from inferplane.spec import Request

FORMAT = 2
Key = tuple[str, str, str]
"""Device profile, op, `text_of` the request."""

_EQUAL = 1.03
"""Times closer than this differ by accident as often as not."""


class OtherFormat(UserError):
    """The file is of another version of Inferplane."""


@dataclass(frozen=True)
class Tuning:
    """times: of each request, kernel -> time relative to the fastest, infinite for one that failed.
    made: versions that measured some of it, as (package, version). source: the file; "" for none.
    """

    times: Mapping[Key, Mapping[str, float]] = field(default_factory=dict)
    made: frozenset[tuple[str, str]] = frozenset()
    source: str = ""

    def ranks(self, request: Request, names: Collection[str]) -> dict[str, float]:
        """The rank of each of the kernels `names`, the least is the best; those within 3 % of the
        fastest are alike. Empty where nothing can be told: no data, or not of all of them."""
        times = self.times.get(key_of(request), {}) if self.times and names else {}
        if not times or any(name not in times for name in names):
            return {}
        least = min(times[name] for name in names)
        if least == inf:
            return {}
        return {n: 0.0 if times[n] <= _EQUAL * least else times[n] for n in names}

    def note(self) -> str:
        """For people: what was measured with other versions than those that are here now."""
        now = versions()
        other = sorted(f"{name} {v}" for name, v in self.made if now.get(name, v) != v)
        if not other:
            return ""
        here = ", ".join(f"{name} {version}" for name, version in now.items())
        return f"; measured with {', '.join(other)}, here are {here}: measure again"


NO_TUNING = Tuning()


def versions() -> dict[str, str]:
    """What measurements depend on, besides the device."""
    try:
        torch = metadata.version("torch")
    except metadata.PackageNotFoundError:
        torch = "none"
    return {"inferplane": __version__, "torch": torch}


def key_of(request: Request) -> Key:
    return request.device.profile, request.op, text_of(request)


def text_of(request: Request) -> str:
    """All fields but the device, the tokens and `extra`, as sorted name=value; what is data itself
    is written in the same way, in braces. Any of them may decide which kernel is the fastest."""
    return _fields(request, {"device", "tokens", "extra"})


def _fields(data: Any, without: Collection[str] = ()) -> str:
    names = sorted(f.name for f in fields(data) if f.name not in without)
    return " ".join(f"{name}={_value(getattr(data, name))}" for name in names)


def _value(value: Any) -> str:
    if isinstance(value, Request):
        return f"{{{text_of(value)}}}"
    if is_dataclass(value):
        return f"{{{_fields(value)}}}"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple):
        return f"({','.join(map(_value, value))})"
    return str(value)


def default_file() -> Path:
    """Under XDG_CACHE_HOME or ~/.cache, as the CPU's compiled kernels are."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # never raises
    return Path(base) / "inferplane" / "tuning.json"


def load_tuning(file: str | None) -> Tuning:
    """file: None for the default one, where it exists; "none" for none. Raises UserError for one
    that cannot be read, with what is wrong."""
    path = Path(file) if file else default_file()
    if file == "none" or not (file or os.path.isfile(path)):  # isfile never raises
        return NO_TUNING
    entries = read_entries(path)
    made = frozenset((n, v) for e in entries.values() for n, v in e["made"].items() if n != "date")
    return Tuning({key: _times(entry) for key, entry in entries.items()}, made, str(path))


def read_entries(path: Path) -> dict[Key, dict[str, Any]]:
    """What the file holds. Raises UserError, for a file of another version OtherFormat."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        other = document["format"] != FORMAT
        entries = [] if other else document["entries"]
        found = {(e["device"], e["op"], e["key"]): e for e in entries}
        for entry in found.values():
            _times(entry)
            entry["made"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"--tuning {path}: {type(error).__name__}: {error}; make it with inferplane tune "
            "--compare, or give --tuning none"
        ) from error
    if other:
        raise OtherFormat(
            f"--tuning {path}: its format is {document['format']}, this version reads {FORMAT}; "
            "measure again with inferplane tune --compare, which replaces it, or give --tuning none"
        )
    return found


def _times(entry: Mapping[str, Any]) -> dict[str, float]:
    times = {str(row["kernel"]): inf for row in entry["failed"]}
    return times | {str(row["kernel"]): float(row["relative"]) for row in entry["kernels"]}
