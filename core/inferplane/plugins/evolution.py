"""What a plugin that was built for an older minor version should change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from inferplane.spec import SPEC_VERSION
from inferplane.spec.deprecated import DEPRECATED, Deprecation

from .changes import Change, Version, changes, shown, versions
from .uses import Uses, uses_of

if TYPE_CHECKING:
    from .discovery import Plugin

_MOST = 3  # changes that a warning names; `plugin diff` shows the rest


def version_warnings(
    plugin: Plugin,
    table: Mapping[str, Deprecation] = DEPRECATED,
    version: Version = SPEC_VERSION,
) -> list[str]:
    """Warnings for `devices` and `explain`: the older contract, and renamed names in use.

    The plugin's source is read only where there is something to look for.
    """
    assert plugin.spec is not None
    theirs = plugin.spec.api[0], plugin.spec.api[1]
    older = theirs < version
    if not older and not table:
        return []
    uses = uses_of(plugin.module)
    renamed = [entry.message(old) for old, entry in table.items() if uses.mentions(old)]
    return renamed + ([_older(plugin, theirs, version, uses)] if older else [])


def _older(plugin: Plugin, theirs: Version, ours: Version, uses: Uses) -> str:
    head = f"built for contract {shown(theirs)}, running on {shown(ours)}"
    if theirs not in versions():
        return f"{head}: there is no record of {shown(theirs)}, so run its conformance tests"
    about_it = [c for c in changes(theirs) if uses.touches(c.root)]
    broken = [c for c in about_it if c.breaks]
    if not broken:
        more = _sum(about_it)
        return f"{head}: nothing that it uses was taken away{more}; set api={ours} when tested"
    named = ", ".join(f"{c.name} ({c.kind})" for c in broken[:_MOST])
    rest = f" and {len(broken) - _MOST} more" if len(broken) > _MOST else ""
    command = f"inferplane plugin diff --plugin {plugin.name}"
    return f"{head}: it may break on {named}{rest}; {command} shows how"


def _sum(added: list[Change]) -> str:
    return f", it can use {', '.join(c.name for c in added[:_MOST])} now" if added else ""
