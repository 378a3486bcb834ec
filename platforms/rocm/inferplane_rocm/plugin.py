"""The hooks of AMD GPUs. No torch and no AMD library here: candidates answer from data.

AITER's kernels have a low priority: they serve where nothing else does, where they are pinned
(`--kernel attention=rocm.aiter_unified`), or where tuning data says that they were faster.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferplane.spec import (
    Candidate,
    Device,
    DeviceProps,
    LinkTopology,
    MemoryInfo,
    PlatformSpec,
    SettingProposal,
    hookimpl,
)

from . import supports
from .device import HIPDevice
from .probe import probe
from .profiles import profiles

_AITER = -10


@hookimpl
def inferplane_platform() -> PlatformSpec:
    return PlatformSpec(
        name="rocm",
        vendor="AMD",
        torch_device="cuda",  # torch's name for HIP devices
        api=(0, 4),
        probe=probe,
        profiles=profiles(),
        process_group="nccl",
        visible_devices="HIP_VISIBLE_DEVICES",
        score=100,
    )


@hookimpl
def inferplane_device(props: DeviceProps) -> Device:
    return HIPDevice("cuda", props)


@hookimpl
def inferplane_memory(props: DeviceProps) -> MemoryInfo:
    from .memory import memory_info

    return memory_info(props)


@hookimpl
def inferplane_topology(props: DeviceProps) -> LinkTopology:
    from .topology import topology

    return topology(props)


@hookimpl
def inferplane_ops(props: DeviceProps) -> list[Candidate]:
    norm = supports.aiter_norm
    return [
        _optional("norm.rms", "aiter_rms", norm, "ops:rms_norm"),
        _optional("norm.add_rms", "aiter_add_rms", norm, "ops:add_rms_norm"),
    ]


@hookimpl
def inferplane_attention(props: DeviceProps) -> list[Candidate]:
    options: dict[str, Any] = {"features": {"window", "softcap", "sinks"}, "capture": "decode"}
    unified, prefill = supports.aiter_unified, supports.aiter_prefill
    return [
        _optional("attention", "aiter_unified", unified, "attention:AiterUnified", **options),
        _optional("attention", "aiter_prefill", prefill, "attention:AiterPrefill", **options),
    ]


@hookimpl
def inferplane_quantization(props: DeviceProps) -> list[Candidate]:
    fp8, a8w8 = supports.hipblaslt_fp8, supports.aiter_linear
    scaled: dict[str, Any] = {"features": {"bias", "quantized", "quantized_activation"}}
    return [
        Candidate(
            op="linear",
            name="rocm.gemm",
            supports=supports.gemm,
            load="inferplane.spec:TorchLinear",
            features=frozenset({"bias"}),
        ),
        _kernel("linear", "hipblaslt_fp8", fp8, "quantization:scaled_linear", **scaled),
        _optional("linear", "aiter_a8w8", a8w8, "quantization:AiterLinear", **scaled),
    ]


@hookimpl
def inferplane_moe(props: DeviceProps) -> list[Candidate]:
    biased = {"sigmoid", "bias", "groups", "scaling", "no_renormalize"}
    silu = {"silu", "quantized", "quantized_activation"}
    table: tuple[tuple[str, str, Any, str, set[str]], ...] = (
        ("route", "topk_softmax", supports.aiter_topk_softmax, "topk_softmax", {"no_renormalize"}),
        ("route", "biased_topk", supports.aiter_biased_topk, "biased_topk", biased),
        ("experts", "fused_moe", supports.aiter_experts, "AiterExperts", silu),
    )
    return [
        _optional(f"moe.{op}", f"aiter_{name}", answer, f"moe:{load}", features=features)
        for op, name, answer, load, features in table
    ]


@hookimpl
def inferplane_communicator(props: DeviceProps) -> list[Candidate]:
    ops = supports.COLLECTIVES
    return [_kernel(op, "rccl", supports.rccl, "communicator:RCCL") for op in ops]


@hookimpl
def inferplane_graphs(props: DeviceProps) -> list[Candidate]:
    return [_kernel("graph", "hip_graph", supports.graph, "graphs:HIPGraphs")]


@hookimpl
def inferplane_settings(settings: Mapping[str, Any], props: DeviceProps) -> list[SettingProposal]:
    reason = "the GPU takes the host's memory, which other programs need too"
    shared = "unified_memory" in props.capabilities
    return [SettingProposal(key="memory_fraction", value=0.7, reason=reason)] if shared else []


def _optional(op: str, name: str, answer: Any, load: str, **options: Any) -> Candidate:
    return _kernel(op, name, answer, load, priority=_AITER, **options)


def _kernel(op: str, name: str, answer: Any, load: str, **options: Any) -> Candidate:
    load = f"inferplane_rocm.{load}"
    return Candidate(op=op, name=f"rocm.{name}", supports=answer, load=load, **options)
