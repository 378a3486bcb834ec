"""Names of the contract that still work for one minor version, and what to use in their place.

Part of the core, not of the contract: a plugin never imports this. A renamed hook, name or field
goes in here in the minor that renames it; the old one keeps working, every plugin that uses it is
named at discovery, and the entry leaves with `removed_in`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

from .version import SPEC_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Deprecation:
    """since: the version that renamed it. removed_in: the first one without the old name.
    use: the new name, of the same kind: a hook, a name, or for "Name.field" the new field."""

    since: tuple[int, int]
    removed_in: tuple[int, int]
    use: str

    def message(self, old: str) -> str:
        since, until = (".".join(map(str, v)) for v in (self.since, self.removed_in))
        owner, _, field = old.partition(".")
        new = f"{owner}.{self.use}" if field else self.use
        return f"{old} is {new} since contract {since}: rename it before {until}"


DEPRECATED: dict[str, Deprecation] = {}
"""Key: a hook ("inferplane_x"), a name ("Name"), or a field of a dataclass ("Name.field")."""


def check_table(
    table: Mapping[str, Deprecation],
    names: Mapping[str, Any],
    hooks: frozenset[str],
    version: tuple[int, int] = SPEC_VERSION,
) -> list[str]:
    """What is wrong with a table, for the contract that has these names and hooks."""
    wrong = []
    for old, entry in table.items():
        owner, _, field = old.partition(".")
        if entry.removed_in <= version:
            wrong.append(f"{old} was to be removed in {entry.removed_in}: take the entry out")
        if not entry.since < entry.removed_in:
            wrong.append(f"{old} must work for one version at least")
        if field:
            known = getattr(names.get(owner), "__dataclass_fields__", {})
            there, gone = entry.use in known, field not in known
        else:
            there = entry.use in names or entry.use in hooks
            gone = old not in names and old not in hooks
        if not there:
            wrong.append(f"{old}: there is no {entry.use!r} to use in its place")
        if not gone:
            wrong.append(f"{old} still exists: nothing was renamed")
    return wrong


def old_name(name: str, names: Mapping[str, Any], table: Mapping[str, Deprecation]) -> Any:
    """What a renamed name of the contract stands for. Raises AttributeError for all others."""
    if name in table and table[name].use in names:
        return names[table[name].use]
    raise AttributeError(f"module 'inferplane.spec' has no attribute {name!r}")


def accept_old_fields(names: Mapping[str, Any], table: Mapping[str, Deprecation]) -> None:
    """Lets renamed fields be given by keyword and read by their old names."""
    for old, entry in table.items():
        owner, _, field = old.partition(".")
        if field:
            _accept(names[owner], field, entry.use)


def _accept(kind: Any, old: str, new: str) -> None:
    construct = kind.__init__

    @wraps(construct)
    def init(self: Any, *arguments: Any, **given: Any) -> None:
        if old in given:
            if new in given:
                raise TypeError(f"{kind.__name__} was given {new!r} and its old name {old!r}")
            given[new] = given.pop(old)
        construct(self, *arguments, **given)

    kind.__init__ = init
    setattr(kind, old, property(lambda self: getattr(self, new), doc=f"Old name of `{new}`."))
