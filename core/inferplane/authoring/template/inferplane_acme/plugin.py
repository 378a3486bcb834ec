"""What this plugin is, and what it offers. No vendor import here: planning works without it."""

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

from .device import PROFILES, AcmeDevice, probe
from .memory import memory_info

DTYPES = ("bf16", "fp32")


@hookimpl
def inferplane_platform() -> PlatformSpec:
    return PlatformSpec(
        name="acme",
        vendor="Acme",
        torch_device="cpu",  # change: the device type that your torch extension registers
        api=(0, 0),  # the contract that this plugin was tested with; do not import SPEC_VERSION
        probe=probe,
        profiles=PROFILES,
        score=-10,  # change: above 0 is preferred to the CPU by `--device auto`
    )


@hookimpl
def inferplane_device(props: DeviceProps) -> Device:
    return AcmeDevice("cpu", props)  # change: the same device type as above


@hookimpl
def inferplane_memory(props: DeviceProps) -> MemoryInfo:
    return memory_info(props)


@hookimpl
def inferplane_ops(props: DeviceProps) -> list[Candidate]:
    return [
        Candidate(
            op="norm.add_rms",
            name="acme.add_rms_norm",
            supports=supports_add_rms_norm,
            load="inferplane_acme.ops:add_rms_norm",
        )
    ]


def supports_add_rms_norm(request: NormRequest) -> Support:
    """Pure: the request is all that it may look at."""
    if request.dtype not in DTYPES:
        return Support.no(f"dtype is {request.dtype}, acme has {' and '.join(DTYPES)}")
    return Support.yes()
