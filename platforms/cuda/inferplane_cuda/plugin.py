"""The hooks of NVIDIA GPUs. No torch and no NVIDIA library here: candidates answer from data.

Optional libraries have a low priority: they serve where nothing else does, where they are pinned
(`--kernel attention=cuda.flashinfer`), or where tuning data says that they were faster.
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
from .device import CUDADevice
from .probe import probe
from .profiles import profiles

_HERE = "inferplane_cuda"
_OPTIONAL = -10


@hookimpl
def inferplane_platform() -> PlatformSpec:
    return PlatformSpec(
        name="cuda",
        vendor="NVIDIA",
        torch_device="cuda",
        api=(0, 4),
        probe=probe,
        profiles=profiles(),
        process_group="nccl",
        visible_devices="CUDA_VISIBLE_DEVICES",
        score=100,
    )


@hookimpl
def inferplane_device(props: DeviceProps) -> Device:
    return CUDADevice("cuda", props)


@hookimpl
def inferplane_memory(props: DeviceProps) -> MemoryInfo:
    from .memory import memory_info

    return memory_info(props)


@hookimpl
def inferplane_topology(props: DeviceProps) -> LinkTopology:
    from .topology import topology

    return topology(props)


@hookimpl
def inferplane_attention(props: DeviceProps) -> list[Candidate]:
    return [
        _attention("flashinfer", supports.flashinfer, "FlashInfer", "decode"),
        _attention("flash_attn_3", supports.flash_attention_3, "FlashAttention3", "decode"),
        _attention("flash_attn", supports.flash_attention_2, "FlashAttention2", "none"),
    ]


@hookimpl
def inferplane_quantization(props: DeviceProps) -> list[Candidate]:
    return [
        _candidate(
            "linear", "cublas", supports.linear, "inferplane.spec:TorchLinear", features={"bias"}
        ),
        _candidate(
            "linear",
            "cublaslt_fp8",
            supports.scaled_linear,
            "inferplane.spec:TorchScaledLinear",
            features={"bias", "quantized", "quantized_activation"},
        ),
    ]


@hookimpl
def inferplane_communicator(props: DeviceProps) -> list[Candidate]:
    module = f"{_HERE}.communicator"
    shot, load = supports.one_shot, f"{module}:OneShot"
    return [_candidate("all_reduce", "one_shot", shot, load, priority=10)] + [
        _candidate(op, "nccl", supports.nccl, f"{module}:NCCL") for op in supports.COLLECTIVES
    ]


@hookimpl
def inferplane_graphs(props: DeviceProps) -> list[Candidate]:
    return [_candidate("graph", "graph", supports.graph, f"{_HERE}.graphs:CUDAGraphs")]


@hookimpl
def inferplane_settings(settings: Mapping[str, Any], props: DeviceProps) -> list[SettingProposal]:
    if "unified_memory" not in props.capabilities:
        return []
    reason = "the GPU's memory is the host's, which other programs need too"
    return [SettingProposal(key="memory_fraction", value=0.7, reason=reason)]


def _attention(name: str, answer: Any, kernel: str, capture: Any) -> Candidate:
    return _candidate(
        "attention",
        name,
        answer,
        f"{_HERE}.attention:{kernel}",
        features={"window", "softcap"},
        capture=capture,
        priority=_OPTIONAL,
    )


def _candidate(op: str, name: str, answer: Any, load: str, **options: Any) -> Candidate:
    return Candidate(op=op, name=f"cuda.{name}", supports=answer, load=load, **options)
