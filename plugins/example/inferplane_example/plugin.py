"""What this plugin is, and what it offers. Imports no torch: planning must work without it."""

from __future__ import annotations

from inferplane.spec import (
    Candidate,
    Device,
    DeviceProps,
    MemoryInfo,
    NormRequest,
    PlatformSpec,
    Support,
    hookimpl,
)

from .device import PROFILE, ExampleDevice, probe
from .memory import memory_info

DTYPES = ("bf16", "fp32")


# --8<-- [start:platform]
@hookimpl
def inferplane_platform() -> PlatformSpec:
    return PlatformSpec(
        name="example",
        vendor="Inferplane",
        torch_device="cpu",  # yours: the device type that your torch extension registers
        api=(0, 4),  # the contract that this plugin was written for
        probe=probe,
        profiles=(PROFILE,),
        score=-10,  # `--device auto` prefers every other platform
    )


# --8<-- [end:platform]
# --8<-- [start:device]
@hookimpl
def inferplane_device(props: DeviceProps) -> Device:
    return ExampleDevice("cpu", props)


@hookimpl
def inferplane_memory(props: DeviceProps) -> MemoryInfo:
    return memory_info()


# --8<-- [end:device]
# --8<-- [start:ops]
@hookimpl
def inferplane_ops(props: DeviceProps) -> list[Candidate]:
    return [
        Candidate(
            op="norm.add_rms",
            name="example.add_rms_norm",
            supports=supports_add_rms_norm,
            load="inferplane_example.ops:add_rms_norm",
        )
    ]


def supports_add_rms_norm(request: NormRequest) -> Support:
    if request.dtype not in DTYPES:
        return Support.no(f"dtype is {request.dtype}, the example has {' and '.join(DTYPES)}")
    return Support.yes()


# --8<-- [end:ops]
