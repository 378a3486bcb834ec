"""The device: the host's CPU, which needs no driver. `Device` has a default for every method."""

from __future__ import annotations

from dataclasses import replace

from inferplane.spec import Device, DeviceProps, Fault, GiB, Probe

from .memory import memory_info

PROFILE = DeviceProps(
    name="Example, 8 GiB",
    profile="example-8g",
    memory_bytes=8 * GiB,
    dtypes=frozenset({"bf16", "fp32"}),
    capabilities=frozenset({"int64_index", "unified_memory"}),
)


# --8<-- [start:probe]
def probe() -> Probe:
    """Looks for devices. A vendor imports its library here, and says what to do if it cannot."""
    try:
        total = memory_info().total_bytes
    except (AttributeError, ValueError, OSError) as error:
        return Probe.missing(f"no memory size: {error}", remedy="run on Linux or macOS")
    return Probe.found([replace(PROFILE, name="Example (the host)", memory_bytes=total)])


# --8<-- [end:probe]
class ExampleDevice(Device):
    """Overrides what differs from `torch.get_device_module(torch_device)`: here, one error."""

    def fault(self, error: BaseException) -> Fault:
        full = "DefaultCPUAllocator" in str(error)  # torch has no error class for the host's memory
        return Fault.MEMORY if full else super().fault(error)
