"""What a platform finds when it looks for its devices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .device import DeviceProps


@dataclass(frozen=True, slots=True)
class Probe:
    """Devices found, or why there are none. Make one with `Probe.found` or `Probe.missing`.

    devices: one `DeviceProps` a visible device, in index order.
    reason: why no device can be used, with the vendor library's own words.
    remedy: (optional) what the user can do about it.
    """

    devices: tuple[DeviceProps, ...] = ()
    reason: str = ""
    remedy: str = ""

    @property
    def available(self) -> bool:
        return bool(self.devices)

    @classmethod
    def found(cls, devices: Iterable[DeviceProps]) -> Probe:
        """Devices are numbered in the order given. An empty list is `missing`, with a reason."""
        numbered = tuple(props.at(index) for index, props in enumerate(devices))
        return cls(numbered) if numbered else cls.missing("the vendor library lists no device")

    @classmethod
    def missing(cls, reason: str, remedy: str = "") -> Probe:
        if not reason.strip():
            raise ValueError("Probe.missing needs a reason")
        return cls((), reason, remedy)
