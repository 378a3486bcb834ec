"""What `plugin diff` tells, as plain data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from inferplane.plugins.changes import changes, parse_version, previous, shown
from inferplane.plugins.discovery import Plugin
from inferplane.plugins.uses import Uses, uses_of
from inferplane.spec import SPEC_VERSION
from inferplane.spec.deprecated import DEPRECATED

from .offers import all_props, collect


def difference(old: str | None, new: str | None, plugin: Plugin | None) -> dict[str, Any]:
    """Between two versions; without them, from the one before (or the plugin's own) to now.

    plugin: only changes of what it imports, implements and offers kernels for.
    """
    end = parse_version(new) if new else SPEC_VERSION
    if old:
        begin = parse_version(old)
    elif plugin is not None and plugin.spec is not None:
        begin = parse_version(shown(plugin.spec.api))
    else:
        begin = previous(end)
    found = changes(begin, end)
    renamed = list(DEPRECATED.items())
    if plugin is not None:
        uses = uses_by(plugin)
        found = [change for change in found if uses.touches(change.root)]
        renamed = [(name, entry) for name, entry in renamed if uses.mentions(name)]
    return {
        "old": shown(begin),
        "new": shown(end),
        "changes": [asdict(change) for change in found],
        "renamed": [entry.message(name) for name, entry in renamed],
    }


def uses_by(plugin: Plugin) -> Uses:
    """What a plugin uses; ops are those that it offers candidates for."""
    ops: set[str] = set()
    if plugin.ready and plugin.manager is not None:
        for props in all_props(plugin):
            ops |= {candidate.op for _, candidate in collect(plugin, props, lambda finding: None)}
    return uses_of(plugin.module, ops)
