"""A test-only platform: kernels run in the Triton interpreter, on host tensors. Never shipped."""

from __future__ import annotations

from inferplane.spec import DeviceProps, GiB, PlatformSpec, Probe, hookimpl

PROPS = DeviceProps(
    name="the Triton interpreter",
    profile="interpreter",
    memory_bytes=4 * GiB,
    dtypes=frozenset({"fp32", "fp16", "bf16", "int8", "fp8_e4m3"}),
    capabilities=frozenset({"triton", "int64_index", "fp8_e4m3_convert", "fp8_e4m3_gemm"}),
    cores=2,
    execution="interpreted",
)


@hookimpl
def inferplane_platform() -> PlatformSpec:
    return PlatformSpec(
        name="triton-interpreter",
        vendor="nobody: interpreted on the host",
        torch_device="cpu",
        api=(0, 4),
        probe=lambda: Probe.found([PROPS]),
        profiles=(PROPS,),
        process_group="gloo",
        score=-20,
    )
