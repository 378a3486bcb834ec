"""Plugins that are not installed: entry points and modules made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from inferplane.plugins.discovery import Plugin, discover
from inferplane.spec import (
    ENTRY_POINT_GROUP,
    SPEC_VERSION,
    Candidate,
    DeviceProps,
    FeatureSpec,
    GiB,
    PlatformSpec,
    Probe,
    Support,
    hookimpl,
)

PROPS = DeviceProps(
    name="Fake 1", profile="fake1", memory_bytes=4 * GiB, dtypes=frozenset({"fp32", "bf16"})
)


@dataclass
class FakeEntryPoint:
    """An entry point that gives `module`, or raises it where it is an exception."""

    name: str
    module: Any
    value: str = "fake.plugin"
    loaded: bool = False

    def load(self) -> Any:
        self.loaded = True
        if isinstance(self.module, BaseException):
            raise self.module
        return self.module


Found = tuple[FakeEntryPoint, str, str, str]


def installed(
    name: str, module: Any, distribution: str = "", group: str = ENTRY_POINT_GROUP
) -> Found:
    """What `discovery.entry_points` gives for one entry point."""
    return FakeEntryPoint(name, module), group, distribution or f"inferplane-{name}", "1.0"


def module_of(**hooks: Callable[..., Any]) -> ModuleType:
    """A module whose functions carry the mark of a hook."""
    module = ModuleType("fake_plugin")
    for name, hook in hooks.items():
        setattr(module, name, hookimpl(hook))
    return module


def platform_spec(name: str = "fake", **changes: Any) -> PlatformSpec:
    fields = {
        "name": name,
        "vendor": "nobody",
        "torch_device": "cpu",
        "api": SPEC_VERSION,
        "probe": lambda: Probe.found([PROPS]),
        "profiles": (PROPS,),
    }
    return PlatformSpec(**(fields | changes))


def platform(
    name: str = "fake", hooks: dict[str, Callable[..., Any]] | None = None, **changes: Any
) -> Found:
    """An installed platform plugin. changes: fields of its `PlatformSpec`."""
    spec = platform_spec(name, **changes)
    return installed(name, module_of(inferplane_platform=lambda: spec, **(hooks or {})))


def feature(name: str = "extra", platforms: tuple[str, ...] = (), **hooks: Any) -> Found:
    """An installed feature plugin."""
    spec = FeatureSpec(name=name, api=SPEC_VERSION, platforms=platforms)
    return installed(name, module_of(inferplane_feature=lambda: spec, **hooks))


def only(found: Found) -> Plugin:
    """The one plugin that discovery makes of it."""
    (plugin,) = discover(found=[found])
    return plugin


def yes(request: Any) -> Support:
    return Support.yes()


def candidate(name: str = "fake.kernel", op: str = "linear", **changes: Any) -> Candidate:
    """A candidate that supports everything and cannot be loaded."""
    return Candidate(**({"op": op, "name": name, "supports": yes, "load": "nowhere:x"} | changes))
