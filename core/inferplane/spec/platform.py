"""What a plugin says of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .device import DeviceProps
from .probe import Probe


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformSpec:
    """A hardware platform. Returned by `inferplane_platform`, without importing a vendor library.

    Required:
      name: what users give to `--device`; lower case letters, digits, `-`, `_`.
      vendor: who makes the device. torch_device: torch's device type for it.
      api: the (major, minor) of the contract that the plugin was built for.
      probe: looks for devices. May import the vendor library; must not raise for a missing one.
    (optional):
      profiles: device profiles for planning without a device (`explain --target`).
      process_group: the `torch.distributed` back-end, "" where there is none.
      visible_devices: the environment variable that hides devices, "" where there is none.
      score: orders platforms for `--device auto`; the highest available one wins. The built-in
        platform has 0.
    """

    name: str
    vendor: str
    torch_device: str
    api: tuple[int, int]
    probe: Callable[[], Probe]
    profiles: tuple[DeviceProps, ...] = ()
    process_group: str = ""
    visible_devices: str = ""
    score: int = 10

    def profile(self, name: str) -> DeviceProps:
        """The profile called `name`. Raises ValueError that lists those there are."""
        for props in self.profiles:
            if props.profile == name:
                return props
        known = ", ".join(p.profile for p in self.profiles) or "none"
        raise ValueError(f"platform {self.name!r} has no profile {name!r}; profiles: {known}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSpec:
    """A plugin that offers candidates to any platform. Returned by `inferplane_feature`.

    name: for pins and messages. api: as in `PlatformSpec`.
    """

    name: str
    api: tuple[int, int]
    platforms: tuple[str, ...] = ()
    """(optional) Platform names it is for; empty means any."""
