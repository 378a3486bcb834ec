"""Guarded discovery: every entry point is tried alone, and none can stop the others."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Protocol

import importlib_metadata
import pluggy

from inferplane.spec import (
    ENTRY_POINT_GROUP,
    SPEC_VERSION,
    FeatureSpec,
    PlatformSpec,
)

from .errors import (
    BadHook,
    ContractMismatch,
    DuplicateName,
    ImportFailed,
    NotAllowed,
    PluginError,
)
from .evolution import version_warnings
from .hooks import register

CORE_DISTRIBUTION = "inferplane"


class EntryPoint(Protocol):
    """What we use of an `importlib_metadata.EntryPoint`."""

    name: str
    value: str

    def load(self) -> Any: ...


@dataclass
class Plugin:
    """One entry point: where it comes from, and either its hooks or why it cannot be used."""

    name: str
    distribution: str
    version: str
    group: str
    value: str
    module: ModuleType | Any = None
    manager: pluggy.PluginManager | None = None
    spec: PlatformSpec | FeatureSpec | None = None
    error: PluginError | None = None
    traceback: str = ""
    warnings: list[str] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        return self.error is None

    @property
    def platform(self) -> PlatformSpec | None:
        return self.spec if isinstance(self.spec, PlatformSpec) else None

    @property
    def feature(self) -> FeatureSpec | None:
        return self.spec if isinstance(self.spec, FeatureSpec) else None

    def offers(self, name: str) -> bool:
        """Whether this plugin is, or was meant to be, the platform `name`."""
        return self.platform.name == name if self.platform else self.name == name

    def call(self, hook: str, **arguments: Any) -> Any:
        """The plugin's answer to one hook, or None where it does not implement it.

        Raises ImportFailed, with the traceback kept, when the implementation raises.
        """
        assert self.manager is not None
        try:
            answers = getattr(self.manager.hook, hook)(**arguments)
        except Exception as error:
            self.traceback = traceback.format_exc()
            raise ImportFailed(
                f"{self.label}: {hook} raised {type(error).__name__}: {error}"
            ) from error
        return answers[0] if answers else None

    @property
    def label(self) -> str:
        return f"plugin {self.name!r} ({self.distribution} {self.version})"


def entry_points() -> list[tuple[EntryPoint, str, str, str]]:
    """(entry point, group, distribution, version) of every `inferplane.v*` group."""
    major = ENTRY_POINT_GROUP.rsplit("v", 1)[0]
    found, seen = [], set()
    for dist in importlib_metadata.distributions():
        for entry in dist.entry_points:
            if not entry.group.startswith(major + "v"):
                continue
            name = dist.metadata["Name"] or "?"
            key = (entry.group, entry.name, entry.value, name)
            if key not in seen:  # the same distribution can be on the path twice
                seen.add(key)
                found.append((entry, entry.group, name, dist.version or "?"))
    return sorted(found, key=lambda item: (item[1], item[0].name, item[2]))


def discover(
    allow: Sequence[str] | None = None,
    found: Iterable[tuple[EntryPoint, str, str, str]] | None = None,
) -> list[Plugin]:
    """Every plugin there is, ready or with the reason why it is not. Never raises for a plugin.

    allow: names that may be imported; None for all. The core's own are always allowed.
    """
    plugins = [
        _open(entry, group, distribution, version, allow)
        for entry, group, distribution, version in (entry_points() if found is None else found)
    ]
    _mark_duplicates(plugins)
    return plugins


def _open(
    entry: EntryPoint, group: str, distribution: str, version: str, allow: Sequence[str] | None
) -> Plugin:
    plugin = Plugin(entry.name, distribution, version, group, entry.value)
    try:
        _check_allowed(plugin, allow)
        _check_group(plugin)
        plugin.module = _import(plugin, entry)
        plugin.manager = register(plugin.label, plugin.name, plugin.module)
        plugin.spec = _read_spec(plugin)
        _check_version(plugin)
    except PluginError as error:
        plugin.error = error
    except Exception as error:
        plugin.traceback = traceback.format_exc()
        plugin.error = BadHook(f"{plugin.label}: {type(error).__name__}: {error}")
    return plugin


def _check_allowed(plugin: Plugin, allow: Sequence[str] | None) -> None:
    if allow is None or plugin.name in allow or plugin.distribution == CORE_DISTRIBUTION:
        return
    raise NotAllowed(
        f"{plugin.label} is installed but not allowed: INFERPLANE_PLUGINS is "
        f"{','.join(allow) or 'empty'}; add {plugin.name!r} to it"
    )


def _check_group(plugin: Plugin) -> None:
    if plugin.group == ENTRY_POINT_GROUP:
        return
    theirs = plugin.group.rsplit("v", 1)[1]
    raise ContractMismatch(
        f"{plugin.label} was built for contract {theirs}.x, this core has "
        f"{SPEC_VERSION[0]}.{SPEC_VERSION[1]}: {_remedy(plugin, _number(theirs) > SPEC_VERSION[0])}"
    )


def _number(major: str) -> int:
    """For comparing: "10" is newer than "9". What is no number is no released contract."""
    return int(major) if major.isdecimal() else -1


def _remedy(plugin: Plugin, theirs_is_newer: bool) -> str:
    package = CORE_DISTRIBUTION if theirs_is_newer else plugin.distribution
    return f"pip install --upgrade {package}"


def _import(plugin: Plugin, entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except BaseException as error:  # a vendor library may even call sys.exit
        if isinstance(error, KeyboardInterrupt):
            raise
        plugin.traceback = traceback.format_exc()
        raise ImportFailed(
            f"{plugin.label} cannot be imported: {type(error).__name__}: {error}"
            " (inferplane devices -v shows the traceback)"
        ) from error


def _read_spec(plugin: Plugin) -> PlatformSpec | FeatureSpec:
    for hook, kind in (("inferplane_platform", PlatformSpec), ("inferplane_feature", FeatureSpec)):
        spec = plugin.call(hook)
        if spec is None:
            continue
        if not isinstance(spec, kind):
            raise BadHook(
                f"{plugin.label}: {hook} returned {type(spec).__name__}, "
                f"it must return {kind.__name__}"
            )
        return spec
    raise BadHook(
        f"{plugin.label} implements neither inferplane_platform nor inferplane_feature: "
        "one of them says what the plugin is"
    )


def _check_version(plugin: Plugin) -> None:
    assert plugin.spec is not None
    theirs, ours = tuple(plugin.spec.api), SPEC_VERSION
    if theirs[0] != ours[0] or theirs[1] > ours[1]:
        raise ContractMismatch(
            f"{plugin.label} was built for contract {theirs[0]}.{theirs[1]}, this core has "
            f"{ours[0]}.{ours[1]}: {_remedy(plugin, theirs > ours)}"
        )
    plugin.warnings += version_warnings(plugin, version=ours)


def _mark_duplicates(plugins: list[Plugin]) -> None:
    """Marks all plugins of one name as unusable, but the core's own, which nothing displaces."""
    by_name: dict[str, list[Plugin]] = {}
    for plugin in plugins:
        name = plugin.spec.name if plugin.spec else plugin.name
        if plugin.group == ENTRY_POINT_GROUP and not isinstance(plugin.error, NotAllowed):
            by_name.setdefault(name, []).append(plugin)
    for name, same in by_name.items():
        owners = ", ".join(f"{p.distribution} {p.version}" for p in same)
        for plugin in same if len(same) > 1 else []:
            if plugin.distribution != CORE_DISTRIBUTION:
                plugin.error = DuplicateName(
                    f"{name!r} is offered by more than one distribution: {owners}; "
                    f"uninstall one: pip uninstall {plugin.distribution}"
                )
