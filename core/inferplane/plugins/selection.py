"""Exactly one platform runs a process. Which one, and why."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field

from inferplane.errors import nearest
from inferplane.spec import DeviceProps, PlatformSpec, Probe

from .discovery import Plugin
from .errors import BadDevice, BadHook, NoDevice, NotInstalled

_MISSPELT = 0.7  # two letters of four swapped are closer, one of three that differs is not


@dataclass
class Selection:
    """The platform that was chosen, its devices, and the reason.

    devices: those asked for, in the order asked. planning: `--target` named a profile, so there
    may be no device at all and nothing can be run.
    """

    plugin: Plugin
    devices: tuple[DeviceProps, ...]
    reason: str
    skipped: list[str] = field(default_factory=list)
    planning: bool = False

    @property
    def platform(self) -> PlatformSpec:
        assert self.plugin.platform is not None
        return self.plugin.platform

    @property
    def props(self) -> DeviceProps:
        """The first device: what a single-rank engine runs on."""
        return self.devices[0]


def probe(plugin: Plugin) -> Probe:
    """What the plugin's probe finds. A probe that raises is a missing device, not a crash."""
    assert plugin.platform is not None
    try:
        result = plugin.platform.probe()
    except (Exception, SystemExit) as error:  # a vendor library may even call sys.exit
        plugin.traceback = traceback.format_exc()
        return Probe.missing(f"its probe raised {type(error).__name__}: {error}")
    if not isinstance(result, Probe):
        return Probe.missing(f"its probe returned {type(result).__name__}, it must return Probe")
    return result


def parse_device(text: str) -> tuple[str, tuple[int, ...]]:
    """ "name", "name:0" or "name:0,2" -> name and indices (none given: empty)."""
    name, _, rest = text.strip().partition(":")
    if not name:
        raise BadDevice(
            f"--device is {text!r}; write NAME or NAME:INDEX,... for example cpu or cpu:0"
        )
    if not rest:
        if ":" in text:
            raise BadDevice(f"--device {text!r} has no index after ':'; for example {name}:0,1")
        return name, ()
    try:
        indices = tuple(int(piece) for piece in rest.split(","))
    except ValueError:
        raise BadDevice(
            f"--device {text!r}: {rest!r} is not a list of indices such as 0,1"
        ) from None
    if len(set(indices)) != len(indices) or min(indices) < 0:
        raise BadDevice(f"--device {text!r}: indices must differ and be 0 or more")
    return name, indices


def select(plugins: Sequence[Plugin], device: str = "auto", target: str | None = None) -> Selection:
    """The platform for `--device`. Never another one than was asked for: raises PluginError.

    target: plan for this profile of the platform, whether or not there is such a device.
    """
    name, indices = parse_device(device)
    if name == "auto":
        if indices:
            raise BadDevice(f"--device {device!r}: auto takes no index; name the platform")
        if target:
            raise BadDevice(f"--target {target} needs --device NAME: profiles belong to a platform")
        return _select_auto(plugins)
    plugin = _named(plugins, name)
    assert plugin.platform is not None
    if target:
        return _select_profile(plugin, target)
    found = probe(plugin)
    if not found.available:
        raise NoDevice(_no_device(plugins, plugin, found))
    return Selection(plugin, _pick(name, found.devices, indices), f"--device {device}")


def _named(plugins: Sequence[Plugin], name: str) -> Plugin:
    offers = [p for p in plugins if p.offers(name)]
    ready = [p for p in offers if p.ready and p.platform]
    if ready:
        return ready[0]
    for plugin in offers:
        if plugin.error:
            raise plugin.error
    installed = sorted(p.platform.name for p in plugins if p.ready and p.platform)
    if any(p.feature for p in offers):
        raise BadHook(
            f"{name!r} is a feature plugin, not a platform: it offers kernels to platforms; "
            f"platforms: {', '.join(installed)}"
        )
    told = f"no platform {name!r}{nearest(name, installed)}; installed: {', '.join(installed)}"
    begun = any(known.startswith(name) for known in installed)
    if not (begun or nearest(name, installed, _MISSPELT)):  # else nobody made the package
        told += f". inferplane-{name} is not installed: pip install inferplane-{name}"
    raise NotInstalled(told)


def _pick(
    name: str, devices: tuple[DeviceProps, ...], indices: tuple[int, ...]
) -> tuple[DeviceProps, ...]:
    for index in indices:
        if index >= len(devices):
            raise BadDevice(
                f"--device {name}:{index}: there is no such device; {name} has "
                f"{len(devices)} (0 to {len(devices) - 1})"
            )
    return tuple(devices[index] for index in indices) if indices else devices


def _select_profile(plugin: Plugin, target: str) -> Selection:
    assert plugin.platform is not None
    try:
        props = plugin.platform.profile(target)
    except ValueError as error:
        raise BadDevice(f"--target {target}: {error}") from None
    return Selection(plugin, (props,), f"--target {target}", planning=True)


def _select_auto(plugins: Sequence[Plugin]) -> Selection:
    """The available platform with the highest score; equal scores by name."""
    skipped = [str(p.error) for p in plugins if p.error]
    platforms = [p for p in plugins if p.ready and p.platform]
    for plugin in sorted(platforms, key=lambda p: (-p.platform.score, p.platform.name)):  # type: ignore[union-attr]
        found = probe(plugin)
        assert plugin.platform is not None
        if found.available:
            reason = f"auto: highest score ({plugin.platform.score}) of the available platforms"
            return Selection(plugin, found.devices, reason, skipped)
        skipped.append(f"{plugin.platform.name}: {found.reason}")
    raise NoDevice("no platform has a device here:\n  " + "\n  ".join(skipped))


def _no_device(plugins: Sequence[Plugin], plugin: Plugin, found: Probe) -> str:
    assert plugin.platform is not None
    others = [p for p in plugins if p.ready and p.platform and p is not plugin]
    working = [p.platform.name for p in others if p.platform and probe(p).available]
    lines = [
        f"platform {plugin.platform.name!r} is installed ({plugin.distribution} {plugin.version}) "
        "but has no device here",
        f"  {found.reason}",
    ]
    if found.remedy:
        lines.append(f"  remedy: {found.remedy}")
    lines.append(f"  platforms that would work now: {', '.join(working) or 'none'}")
    names = ", ".join(props.profile for props in plugin.platform.profiles)
    if names:
        plan = f"inferplane explain MODEL --device {plugin.platform.name} --target NAME"
        lines.append(f"  a plan needs no device: {plan}, of {names}")
    return "\n".join(lines)
