"""Which devices there are (data), and how one is driven."""

from __future__ import annotations

from dataclasses import replace

from inferplane.spec import Device, DeviceProps, Fault, GiB, Probe

from .memory import memory_info

# change: your products. A profile lets anyone plan without the device: explain --target acme-1.
PROFILES = (
    DeviceProps(
        name="Acme 1, 16 GiB",
        profile="acme-1",
        memory_bytes=16 * GiB,
        dtypes=frozenset({"bf16", "fp32"}),
        capabilities=frozenset({"int64_index"}),
    ),
)


def probe() -> Probe:
    """Looks for devices. Never raises for one that is missing: it says why, and what to do.

    change: import your library here, inside of `try`, and list what it sees:

        try:
            import torch_acme
        except ImportError as error:
            return Probe.missing(f"torch_acme: {error}", remedy="pip install torch-acme")
        return Probe.found([...])
    """
    (profile,) = PROFILES
    total = memory_info(profile).total_bytes
    return Probe.found([replace(profile, name="Acme (the host's CPU)", memory_bytes=total)])


class AcmeDevice(Device):
    """Every method has a default over `torch.get_device_module(torch_device)`.

    change: override what differs (`synchronize`, `stream`, `fault`, `peak_bytes`, ...).
    """

    def fault(self, error: BaseException) -> Fault:
        """change: which errors of your library mean that memory ran out, or the device is lost."""
        full = "DefaultCPUAllocator" in str(error)  # how torch reports the host's memory
        return Fault.MEMORY if full else super().fault(error)
