"""Measured configurations: JSON files keyed by device name and op, validated when read.

`inferplane tune` writes them. A file that cannot be used is a warning, and defaults are used.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from inferplane.spec import Request

from .defaults import Configuration
from .spaces import SPACES

FORMAT = 1
FOLDER = Path(__file__).with_name("tuned")
Entries = dict[tuple[str, str], Configuration]


class BadFile(ValueError):
    """A tuned file that cannot be used, and why."""


def file_name(device: str, op: str) -> str:
    """ "NVIDIA H200", "attention" -> "nvidia-h200.attention.json"."""
    slug = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    return f"{slug}.{op}.json"


def configured(
    op: str, request: Request, case: str, default: Configuration, folder: Path = FOLDER
) -> Configuration:
    """The measured configuration for this device, request and case, or the default."""
    entries = read(folder / file_name(request.device.name, op), op, request.device.name)
    return {**default, **entries.get((request.describe(), case), {})}


@cache
def read(path: Path, op: str, device: str) -> Entries:
    """(request, case) -> configuration; empty where there is no file, or none that can be used."""
    if not path.exists():
        return {}
    try:
        return parse(path.read_text(encoding="utf-8"), op, device)
    except (OSError, BadFile) as error:
        warnings.warn(
            f"tuned configurations {path.name} are not used: {error}; defaults are. To measure "
            f"them again: inferplane tune --op {op}",
            stacklevel=2,
        )
        return {}


def parse(text: str, op: str, device: str) -> Entries:
    """Raises BadFile that says what is wrong, and where."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise BadFile(f"it is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise BadFile("it is not a JSON object")
    wanted = {"format": FORMAT, "device": device, "op": op}
    for key, value in wanted.items():
        if document.get(key) != value:
            raise BadFile(f"{key} is {document.get(key)!r}, it must be {value!r}")
    entries = document.get("entries")
    if not isinstance(entries, list):
        raise BadFile("entries is not a list")
    return dict(_entry(entry, op, f"entry {at}") for at, entry in enumerate(entries, 1))


def _entry(entry: Any, op: str, where: str) -> tuple[tuple[str, str], Configuration]:
    if not isinstance(entry, dict):
        raise BadFile(f"{where} is not an object")
    request, case, found = (entry.get(name) for name in ("request", "case", "configuration"))
    if not isinstance(request, str) or not isinstance(case, str):
        raise BadFile(f"{where}: request and case must be texts")
    if not isinstance(found, Mapping):
        raise BadFile(f"{where}: configuration is not an object")
    space = SPACES[op].get(case)
    if space is None:
        raise BadFile(f"{where}: case is {case!r}, {op} has {', '.join(map(repr, SPACES[op]))}")
    for name, value in found.items():
        if name not in space:
            raise BadFile(f"{where}: no parameter {name!r}; there are {', '.join(space)}")
        if type(value) is not int or value not in space[name]:
            known = ", ".join(map(str, space[name]))
            raise BadFile(f"{where}: {name} is {value!r}; it can be {known}")
    return (request, case), dict(found)
