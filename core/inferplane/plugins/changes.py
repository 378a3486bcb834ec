"""What changed between two versions of the contract, in words, from their lock files.

A change either breaks nobody, or says whom it breaks: plugins that construct an object, call it,
implement it, or import it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from inferplane.errors import UserError
from inferplane.spec import SPEC_VERSION
from inferplane.spec.lock import LOCKS

from .signatures import field_changes, method_change

Version = tuple[int, int]
Kind = Literal["added", "removed", "changed"]
_HOOKS = "InferplaneSpecs"
_RANK = {"removed": 0, "changed": 1, "added": 2}


@dataclass(frozen=True, slots=True)
class Change:
    """One change. root: the name that a plugin imports, the hook, or the op that it is about.

    name: with the field or method, "Device.fault". breaks: whom, "" for nobody.
    """

    kind: Kind
    root: str
    name: str
    text: str
    breaks: str = ""

    def __str__(self) -> str:
        end = f"; breaks {self.breaks}" if self.breaks else ""
        return f"{self.name}: {self.text}{end}"


def shown(version: Version) -> str:
    return ".".join(map(str, version))


def versions() -> list[Version]:
    """All that have a lock, oldest first."""
    pairs = [path.stem.split(".") for path in LOCKS.glob("*.json")]
    return sorted((int(major), int(minor)) for major, minor in pairs)


def parse_version(text: str) -> Version:
    """ "0.1" -> (0, 1). Raises UserError with the versions there are."""
    for version in versions():
        if shown(version) == text.strip():
            return version
    known = ", ".join(map(shown, versions()))
    raise UserError(f"no contract version {text!r}; there are {known}")


def read_lock(version: Version) -> dict[str, Any]:
    """The contract of that version as data. Raises UserError where no lock was kept."""
    try:
        text = (LOCKS / f"{shown(version)}.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        parse_version(shown(version))
        raise
    found: dict[str, Any] = json.loads(text)
    return found


def previous(version: Version = SPEC_VERSION) -> Version:
    """The version before, or `version` itself for the first one."""
    return max((v for v in versions() if v < version), default=version)


def changes(old: Version, new: Version = SPEC_VERSION) -> list[Change]:
    """From `old` to `new`, those that break somebody first."""
    return compare(read_lock(old), read_lock(new))


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """As `changes`, for two contracts as data."""
    found = [*_names(old["names"], new["names"]), *_ops(old["ops"], new["ops"])]
    return sorted(found, key=lambda c: (not c.breaks, _RANK[c.kind], c.name))


def _names(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for name in sorted(old.keys() | new.keys()):
        if name not in old:
            yield Change("added", name, name, "new name")
        elif name not in new:
            yield Change("removed", name, name, "name removed", "plugins that import it")
        elif old[name] != new[name]:
            yield from _one_name(name, old[name], new[name])


def _one_name(name: str, old: Any, new: Any) -> Iterator[Change]:
    if not isinstance(old, dict) or not isinstance(new, dict):
        yield Change("changed", name, name, f"was {old}, is {new}", "plugins that use it")
        return
    if "members" in old or "members" in new:
        yield from _members(name, old.get("members", {}), new.get("members", {}))
        return
    for kind, field, text, breaks in field_changes(old.get("fields", []), new.get("fields", [])):
        yield Change(kind, name, f"{name}.{field}", text, breaks)
    if old.get("frozen") != new.get("frozen"):
        frozen = "frozen now" if new.get("frozen") else "not frozen any more"
        yield Change("changed", name, name, frozen, "plugins that write to it")
    if old.get("bases") != new.get("bases"):
        text = f"bases were {', '.join(old['bases'])}, are {', '.join(new['bases'])}"
        yield Change("changed", name, name, text, "plugins that test for the old bases")
    hooks = name == _HOOKS
    protocol = "Protocol" in new.get("bases", ())
    before, after = old.get("methods", {}), new.get("methods", {})
    for method in sorted(before.keys() | after.keys()):
        found = method_change(before.get(method), after.get(method), hooks, protocol)
        if found is not None:
            kind, text, breaks = found
            root, full = (method, f"hook {method}") if hooks else (name, f"{name}.{method}")
            yield Change(kind, root, full, text, breaks)


def _members(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for member in sorted(old.keys() | new.keys()):
        full = f"{name}.{member}"
        if member not in old:
            yield Change("added", name, full, f"new member {new[member]!r}")
        elif member not in new:
            yield Change("removed", name, full, "member removed", "plugins that use it")
        elif old[member] != new[member]:
            text = f"was {old[member]!r}, is {new[member]!r}"
            yield Change("changed", name, full, text, "plugins that compare its value")


def _ops(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for op in sorted(old.keys() | new.keys()):
        if op not in old:
            yield Change("added", op, f"op {op}", "new op")
        elif op not in new:
            yield Change("removed", op, f"op {op}", "op removed", f"candidates for {op}")
        else:
            before, after = old[op], new[op]
            for key in sorted(k for k in before.keys() | after.keys() if before[k] != after[k]):
                text = f"{key} was {before[key]}, is {after[key]}"
                harmless = key == "provisional" and not after[key]
                breaks = "" if harmless else f"candidates for {op}"
                yield Change("changed", op, f"op {op}", text, breaks)
