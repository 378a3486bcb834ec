"""The hooks that offer no candidates: device, memory, settings, models, formats."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

from inferplane.errors import nearest
from inferplane.plugins.discovery import Plugin
from inferplane.plugins.errors import ImportFailed
from inferplane.spec import (
    Device,
    DeviceProps,
    FormatSpec,
    MemoryInfo,
    ModelSpec,
    SettingProposal,
)

from .findings import Finding


def _asked(plugin: Plugin, hook: str, code: str, found: list[Finding], **arguments: Any) -> Any:
    try:
        return plugin.call(hook, **arguments)
    except ImportFailed as error:
        found.append(Finding(code, hook, str(error)))
        return None


def _listed(
    plugin: Plugin, hook: str, code: str, kind: type, found: list[Finding], **arguments: Any
) -> Iterator[Any]:
    """The entries of a hook's list that have the right type; the others are noted."""
    answer = _asked(plugin, hook, code, found, **arguments)
    if answer is not None and not isinstance(answer, list | tuple):
        text = f"it gave {type(answer).__name__}; return a list of {kind.__name__}"
        found.append(Finding(code, hook, text))
        return
    for entry in answer or ():
        if isinstance(entry, kind):
            yield entry
        else:
            text = f"the list holds {type(entry).__name__}; it may hold {kind.__name__} only"
            found.append(Finding(code, hook, text))


def of_settings(plugin: Plugin, props: DeviceProps) -> list[Finding]:
    """Proposals: a reason each. Their keys are checked by `of_setting_names`."""
    found: list[Finding] = []
    hook = "inferplane_settings"
    proposals = _listed(plugin, hook, "IP503", SettingProposal, found, settings={}, props=props)
    for proposal in proposals:
        if len(proposal.reason.split()) < 2:
            text = f"{proposal.key}: the reason is {proposal.reason!r}; explain shows it to users"
            found.append(Finding("IP503", hook, text))
    return found


def of_setting_names(plugin: Plugin, props: DeviceProps) -> Iterator[Finding]:
    """Proposals for settings that do not exist."""
    from inferplane.settings import Settings

    hook, known = "inferplane_settings", Settings.model_fields
    for proposal in _listed(plugin, hook, "IP503", SettingProposal, [], settings={}, props=props):
        if proposal.key not in known:
            text = f"there is no setting {proposal.key!r}{nearest(proposal.key, known)}"
            yield Finding("IP503", hook, text)


def of_models(plugin: Plugin) -> list[Finding]:
    """Architectures and formats: the right type, and a module that exists."""
    found: list[Finding] = []
    kinds: tuple[tuple[str, Any], ...] = (
        ("inferplane_models", ModelSpec),
        ("inferplane_formats", FormatSpec),
    )
    for hook, kind in kinds:
        for entry in _listed(plugin, hook, "IP504", kind, found):
            module, _, attribute = entry.load.partition(":")
            if not attribute:
                text = f"{entry.name}: load is {entry.load!r}; write 'module:Class'"
            elif not _exists(module):
                text = f"{entry.name}: there is no module {module!r}"
            else:
                continue
            found.append(Finding("IP504", hook, text))
    return found


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def of_device(plugin: Plugin, props: DeviceProps) -> list[Finding]:
    """Device and memory of a device that is here."""
    found: list[Finding] = []
    _one(plugin, "inferplane_device", "IP501", Device, found, props)
    info = _one(plugin, "inferplane_memory", "IP502", MemoryInfo, found, props)
    if info is not None:
        found += [Finding("IP502", "inferplane_memory", text) for text in _wrong_memory(info)]
    return found


def _one(
    plugin: Plugin,
    hook: str,
    code: str,
    kind: type,
    found: list[Finding],
    props: DeviceProps,
) -> Any:
    answer = _asked(plugin, hook, code, found, props=props)
    if answer is None or isinstance(answer, kind):
        return answer
    found.append(Finding(code, hook, f"it gave {type(answer).__name__}; return {kind.__name__}"))
    return None


def _wrong_memory(info: MemoryInfo) -> Iterator[str]:
    if not 0 <= info.free_bytes <= info.total_bytes:
        yield f"free_bytes {info.free_bytes:,} is not between 0 and total {info.total_bytes:,}"
    if info.total_bytes <= 0:
        yield f"total_bytes is {info.total_bytes}"
    if not info.source.strip():
        yield "source is empty: name the call or file that told"
