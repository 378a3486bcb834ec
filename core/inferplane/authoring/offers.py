"""What a plugin says of itself and what it offers, held to the contract. Data only: no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from inferplane.errors import UserError, nearest
from inferplane.plugins.catalog import CANDIDATE_HOOKS, check_offer
from inferplane.plugins.discovery import CORE_DISTRIBUTION, Plugin
from inferplane.plugins.errors import (
    BadHook,
    ContractMismatch,
    DuplicateName,
    ImportFailed,
    NotAllowed,
)
from inferplane.plugins.hooks import implemented
from inferplane.plugins.resolution import is_reference
from inferplane.plugins.uses import uses_of
from inferplane.spec import DTYPE_BITS, PROVISIONAL_HOOKS, Candidate, DeviceProps, GiB

from .findings import Finding
from .samples import OPEN_OPS, features, samples

ERROR_CODES = {
    ImportFailed: "IP101",
    ContractMismatch: "IP102",
    DuplicateName: "IP103",
    BadHook: "IP104",
    NotAllowed: "IP105",
}
# Letters and a number, "b90": capabilities must say what a device can do, not which one it is.
_ARCHITECTURE = re.compile(r"[a-z]{1,4}_?\d{2,}[a-z]?")
NO_PROFILE = DeviceProps(
    name="a device of the checker",
    profile="checker",
    memory_bytes=16 * GiB,
    dtypes=frozenset({"bf16", "fp16", "fp32"}),
)


def of_error(plugin: Plugin) -> list[Finding]:
    """Why discovery could not use the plugin."""
    if plugin.error is None:
        return []
    return [Finding(ERROR_CODES.get(type(plugin.error), "IP104"), "", str(plugin.error))]


def of_plugin(plugin: Plugin) -> Iterator[Finding]:
    """Version, names, provisional hooks."""
    assert plugin.spec is not None and plugin.manager is not None
    for warning in plugin.warnings:
        yield Finding("IP110", "", warning)
    uses = uses_of(plugin.module)
    if plugin.distribution != CORE_DISTRIBUTION and "SPEC_VERSION" in uses.names:
        pair = tuple(plugin.spec.api)
        text = f"it imports SPEC_VERSION; write the version that you tested: api={pair}"
        yield Finding("IP111", "", text)
    for hook in sorted(set(implemented(plugin.manager)) & PROVISIONAL_HOOKS):
        yield Finding("IP112", hook, "the hook is provisional: its objects may still change")
    if plugin.name != plugin.spec.name:
        text = (
            f"the entry point is {plugin.name!r}, the plugin says {plugin.spec.name!r}: where it "
            "cannot be imported only the entry point's name is known; use one name"
        )
        yield Finding("IP113", "", text)
    if plugin.platform:
        yield from of_profiles(plugin)


def of_profiles(plugin: Plugin) -> Iterator[Finding]:
    """Profiles as data."""
    assert plugin.platform is not None
    seen: set[str] = set()
    for props in plugin.platform.profiles:
        for text in _wrong_props(props):
            yield Finding("IP122", props.profile, text)
        if props.profile in seen:
            yield Finding("IP122", props.profile, "two profiles have this name")
        seen.add(props.profile)
        for word in sorted(props.capabilities - DTYPE_BITS.keys()):
            if _ARCHITECTURE.fullmatch(word):
                text = f"capability {word!r} names an architecture; say what it can do"
                yield Finding("IP123", props.profile, text)
    if not plugin.platform.profiles:
        text = "add a DeviceProps to PlatformSpec.profiles, so that explain --target can plan"
        yield Finding("IP121", "", text)


def _wrong_props(props: DeviceProps) -> Iterator[str]:
    if not props.profile or props.profile != props.profile.strip():
        yield f"profile is {props.profile!r}; give it a short name for --target"
    if props.memory_bytes <= 0:
        yield f"memory_bytes is {props.memory_bytes}"
    if not props.dtypes:
        yield "it has no dtypes"
    for name in sorted(props.dtypes - DTYPE_BITS.keys()):
        yield f"unknown dtype {name!r}{nearest(name, DTYPE_BITS)}"
    for size in props.page_sizes:
        if size < 1:
            yield f"page size {size} is not possible"


def all_props(plugin: Plugin) -> Sequence[DeviceProps]:
    """Devices to ask about: the profiles, or for want of any one of ours."""
    return (plugin.platform.profiles if plugin.platform else ()) or (NO_PROFILE,)


def collect(
    plugin: Plugin, props: DeviceProps, note: Callable[[Finding], None]
) -> list[tuple[str, Candidate]]:
    """(hook, candidate) of all that the plugin offers for a device; what is wrong is noted."""
    found: list[tuple[str, Candidate]] = []
    for hook in CANDIDATE_HOOKS:
        try:
            offered = plugin.call(hook, props=props)
        except ImportFailed as error:
            note(Finding("IP201", hook, f"{error} (for profile {props.profile})"))
            continue
        if offered is not None and not isinstance(offered, list | tuple):
            text = f"it gave {type(offered).__name__}; return a list of Candidate"
            note(Finding("IP201", hook, text))
            continue
        for candidate in offered or ():
            if isinstance(candidate, Candidate):
                found.append((hook, candidate))
            else:
                text = f"the list holds {type(candidate).__name__}; it may hold Candidate only"
                note(Finding("IP201", hook, text))
    return found


def of_candidates(
    plugin: Plugin, offered: Sequence[tuple[str, Candidate]], props: DeviceProps
) -> Iterator[Finding]:
    """Names, ops, levels, features, page sizes."""
    assert plugin.spec is not None
    seen: dict[tuple[str, str], str] = {}
    for hook, candidate in offered:
        name = candidate.name
        try:
            check_offer(plugin, candidate)
        except UserError as error:
            code = "IP204" if is_reference(candidate) else "IP202"
            yield Finding(code, name, str(error))
            continue
        key = candidate.op, name
        if key in seen:
            text = f"{candidate.op} {name} is offered twice, by {seen[key]} and {hook}"
            yield Finding("IP204", name, text)
        seen[key] = hook
        owner = name.partition(".")[0]
        if owner not in (plugin.name, plugin.spec.name) and not is_reference(candidate):
            text = f"names begin with the plugin's: {plugin.spec.name}.{name.partition('.')[2]}"
            yield Finding("IP207", name, text)
        yield from _features(candidate, props)
        for size in candidate.page_sizes:
            if size < 1:
                yield Finding("IP209", name, f"page size {size}; sizes are in tokens, 1 or more")


def _features(candidate: Candidate, props: DeviceProps) -> Iterator[Finding]:
    known = features(candidate.op, props)
    for feature in sorted(candidate.features - known):
        hint = nearest(feature, known)
        if candidate.op in OPEN_OPS and not hint:
            continue
        text = (
            f"feature {feature!r} is asked for by no request of {candidate.op}{hint}; "
            f"there are {', '.join(sorted(known)) or 'none'}"
        )
        yield Finding("IP203", candidate.name, text)


def of_sizes(candidate: Candidate, props: DeviceProps) -> Iterator[Finding]:
    """`layout` and `extra_bytes` for the first request that the candidate supports."""
    for request in samples(candidate.op, props):
        if request.requires - candidate.features or not _supports(candidate, request):
            continue
        for field in ("layout", "extra_bytes"):
            function: Any = getattr(candidate, field)
            if function is None:
                continue
            try:
                function(request)
            except Exception as error:
                text = f"{field} raised {type(error).__name__}: {error} for {request.describe()}"
                yield Finding("IP208", candidate.name, text)
        return


def _supports(candidate: Candidate, request: Any) -> bool:
    try:
        return bool(candidate.supports(request))
    except Exception:  # `answers` reports it
        return False
