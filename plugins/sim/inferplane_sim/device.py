"""The platform's probe, and the driver of one device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferplane.spec import Device, Fault, Probe

if TYPE_CHECKING:
    import torch


def probe() -> Probe:
    """There are as many as the settings say. A wrong setting is a missing device."""
    from .config import load_settings
    from .driver import props_of

    try:
        settings = load_settings()
    except ValueError as error:
        return Probe.missing(str(error), "correct the SIM_ variables of the environment")
    return Probe.found([props_of(settings)] * settings.devices)


class SimDevice(Device):
    """The defaults of the contract work over `torch.sim`; here is what differs."""

    def activate(self) -> None:
        from .backend import install

        install()
        super().activate()

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        from .pinned import pin

        return pin(tensor)

    def fault(self, error: BaseException) -> Fault:
        from .errors import SimDeviceLost

        return Fault.LOST if isinstance(error, SimDeviceLost) else super().fault(error)
