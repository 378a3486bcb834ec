"""What `plugin list` and `plugin show` tell, as plain data. Probes no device."""

from __future__ import annotations

from typing import Any

from inferplane.plugins.changes import shown
from inferplane.plugins.discovery import Plugin
from inferplane.plugins.hooks import implemented
from inferplane.spec import PROVISIONAL_HOOKS, Candidate, DeviceProps

from .findings import Finding
from .offers import all_props, collect


def entry(plugin: Plugin) -> dict[str, Any]:
    """One entry point: where it comes from, and whether it is ready or why not."""
    spec = plugin.spec
    kind = "platform" if plugin.platform else "feature" if plugin.feature else ""
    return {
        "name": spec.name if spec else plugin.name,
        "kind": kind,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "entry_point": f"{plugin.group}: {plugin.name} = {plugin.value}",
        "contract": shown(spec.api) if spec else "",
        "ready": plugin.ready,
        "state": str(plugin.error) if plugin.error else "ready",
        "warnings": list(plugin.warnings),
    }


def details(plugin: Plugin) -> dict[str, Any]:
    """All that the plugin says without its device. Candidates are those for its profiles."""
    row = entry(plugin)
    if not plugin.ready:
        return row
    assert plugin.manager is not None
    hooks = implemented(plugin.manager)
    row["hooks"] = hooks
    row["provisional_hooks"] = sorted(set(hooks) & PROVISIONAL_HOOKS)
    if plugin.platform:
        platform = plugin.platform
        row["vendor"] = platform.vendor
        row["torch_device"] = platform.torch_device
        row["process_group"] = platform.process_group
        row["visible_devices"] = platform.visible_devices
        row["score"] = platform.score
        row["profiles"] = [profile(props) for props in platform.profiles]
    else:
        assert plugin.feature is not None
        row["platforms"] = list(plugin.feature.platforms)
    problems: list[Finding] = []
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for props in all_props(plugin):
        for hook, candidate in collect(plugin, props, problems.append):
            found.setdefault((candidate.op, candidate.name), offer(hook, candidate))
    row["candidates"] = [found[key] for key in sorted(found)]
    row["problems"] = [finding.as_row() for finding in problems]
    return row


def profile(props: DeviceProps) -> dict[str, Any]:
    return {
        "profile": props.profile,
        "name": props.name,
        "memory_bytes": props.memory_bytes,
        "dtypes": sorted(props.dtypes),
        "capabilities": sorted(props.capabilities),
        "page_sizes": list(props.page_sizes),
    }


def offer(hook: str, candidate: Candidate) -> dict[str, Any]:
    load = candidate.load if isinstance(candidate.load, str) else repr(candidate.load)
    return {
        "op": candidate.op,
        "name": candidate.name,
        "hook": hook,
        "level": candidate.level,
        "features": sorted(candidate.features),
        "priority": candidate.priority,
        "page_sizes": list(candidate.page_sizes),
        "load": load,
    }
