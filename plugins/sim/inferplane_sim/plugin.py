"""The simulated platform's hooks. Nothing is registered with torch before a device is used."""

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
from .config import load_settings
from .device import SimDevice, probe
from .profiles import profiles


@hookimpl
def inferplane_platform() -> PlatformSpec:
    return PlatformSpec(
        name="sim",
        vendor="nobody: simulated",
        torch_device="sim",
        api=(0, 4),
        probe=probe,
        profiles=tuple(profiles().values()),
        process_group="gloo",
        score=-10,
    )


@hookimpl
def inferplane_device(props: DeviceProps) -> Device:
    from .backend import install

    install()
    return SimDevice("sim", props)


@hookimpl
def inferplane_memory(props: DeviceProps) -> MemoryInfo:
    from .memory import memory_info

    return memory_info(props)


@hookimpl
def inferplane_topology(props: DeviceProps) -> LinkTopology:
    """Every device to every other by the host's memory."""
    each = range(load_settings().devices)
    return LinkTopology(tuple(tuple("" if a == b else "host" for b in each) for a in each))


@hookimpl
def inferplane_ops(props: DeviceProps) -> list[Candidate]:
    return _offers(
        _kernel("norm.rms", supports.floats, "ops:rms_norm", features={"weight_offset"}),
        _kernel("norm.add_rms", supports.floats, "ops:add_rms_norm", features={"weight_offset"}),
        _kernel(
            "rotary", supports.rotary, "ops:Rotary", features={"interleaved", "partial_rotary"}
        ),
        _kernel("embedding", supports.embedding, "ops:Embedding", features={"scale"}),
        _kernel(
            "activation.gated",
            supports.activation,
            "ops:gated",
            features={*supports.ACTIVATIONS, "limit"},
        ),
        _kernel("kv.write", supports.kv_write, "ops:kv_write"),
    )


@hookimpl
def inferplane_attention(props: DeviceProps) -> list[Candidate]:
    return _offers(
        _kernel(
            "attention",
            supports.attention,
            "attention:PagedAttention",
            features={"window"},
            page_sizes=props.page_sizes,
        )
    )


@hookimpl
def inferplane_quantization(props: DeviceProps) -> list[Candidate]:
    return _offers(
        _kernel("linear", supports.linear, "quantization:Linear", features={"bias"}),
        _kernel(
            "linear",
            supports.quantized_linear,
            "quantization:QuantizedLinear",
            name="sim.quantized_linear",
            features={"bias", *supports.SCHEMES},
        ),
    )


@hookimpl
def inferplane_moe(props: DeviceProps) -> list[Candidate]:
    return _offers(
        _kernel("moe.route", supports.floats, "moe:route", features=supports.ROUTING),
        _kernel(
            "moe.experts",
            supports.experts,
            "moe:Experts",
            features={"bias", "limit", *supports.ACTIVATIONS, *supports.SCHEMES},
        ),
    )


@hookimpl
def inferplane_blocks(props: DeviceProps) -> list[Candidate]:
    features = {"qk_norm", "weight_offset", "interleaved", "partial_rotary"}
    return _offers(
        _kernel(
            "attention.input",
            supports.attention_input,
            "blocks:AttentionInput",
            features=features,
            level="block",
        )
    )


@hookimpl
def inferplane_communicator(props: DeviceProps) -> list[Candidate]:
    return [
        _kernel(op, supports.collective, "communicator:SimCommunicator", capture="none")
        for op in supports.COLLECTIVES
    ]


@hookimpl
def inferplane_graphs(props: DeviceProps) -> list[Candidate]:
    if "graph_capture" not in props.capabilities:
        return []
    return [_kernel("graph", supports.graph, "graphs:Graphs")]


@hookimpl
def inferplane_settings(settings: Mapping[str, Any], props: DeviceProps) -> list[SettingProposal]:
    reason = "nothing is compiled here, and faults count launches from the first request on"
    return [SettingProposal(key="warm_up", value=False, reason=reason)]


def _kernel(op: str, answer: Any, load: str, name: str = "", **options: Any) -> Candidate:
    load, name = f"inferplane_sim.{load}", name or f"sim.{op}"
    return Candidate(op=op, name=name, supports=answer, load=load, **options)


def _offers(*candidates: Candidate) -> list[Candidate]:
    """None of them with SIM_KERNELS=0: the reference then runs on the device."""
    return list(candidates) if load_settings().kernels else []
