"""The CPU platform's hooks. No torch here: candidates answer from data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferplane.spec import (
    SPEC_VERSION,
    Candidate,
    Device,
    DeviceProps,
    MemoryInfo,
    PlatformSpec,
    SettingProposal,
    hookimpl,
)

from . import supports
from .device import PROFILES, CPUDevice, probe
from .memory import memory_info
from .native import supports as native

_HERE = "inferplane.platforms.cpu"


@hookimpl
def inferplane_platform() -> PlatformSpec:
    return PlatformSpec(
        name="cpu",
        vendor="the host",
        torch_device="cpu",
        api=SPEC_VERSION,
        probe=probe,
        profiles=PROFILES,
        process_group="gloo",
        score=0,
    )


@hookimpl
def inferplane_device(props: DeviceProps) -> Device:
    return CPUDevice("cpu", props)


@hookimpl
def inferplane_memory(props: DeviceProps) -> MemoryInfo:
    return memory_info()


@hookimpl
def inferplane_ops(props: DeviceProps) -> list[Candidate]:
    return [
        _candidate("norm.rms", "rms_norm", supports.floats, "ops:rms_norm"),
        _candidate("norm.add_rms", "add_rms_norm", supports.floats, "ops:add_rms_norm"),
        _candidate("rotary", "rotary", supports.floats, "ops:Rotary"),
        _candidate("embedding", "embedding", supports.floats, "ops:Embedding"),
        _candidate(
            "activation.gated",
            "gated",
            supports.activation,
            "ops:gated",
            features=supports.ACTIVATIONS | {"limit"},
        ),
        _candidate(
            "kv.write",
            "kv_write",
            supports.kv_write,
            "ops:kv_write",
            features=supports.NARROW_KV,
        ),
        _native("norm.rms", "rms_norm", native.norm, "ops:rms_norm"),
        _native("norm.add_rms", "add_rms_norm", native.norm, "ops:add_rms_norm"),
        _native("activation.gated", "silu", native.activation, "ops:silu", features={"silu"}),
        _candidate(
            "sample", "sample", supports.sample, "sample:sample", features=supports.SAMPLING
        ),
    ]


@hookimpl
def inferplane_attention(props: DeviceProps) -> list[Candidate]:
    return [
        _candidate(
            "attention",
            "flash",
            supports.attention,
            "attention:FlashAttention",
            features={"window", "sinks"} | supports.NARROW_KV,
            capture="none",
            page_sizes=(16, 32, 64, 128),
        ),
        _candidate(
            "attention",
            "latent",
            supports.latent,
            "attention:LatentAttention",
            features={"latent", "value_dim", "sinks"} | supports.NARROW_KV,
            capture="none",
            page_sizes=(16, 32, 64, 128),
        ),
        _native(
            "attention",
            "attention",
            native.attention,
            "attention:NativeAttention",
            features={"window", "sinks"},
            capture="none",
            page_sizes=(16, 32, 64, 128),
        ),
    ]


@hookimpl
def inferplane_quantization(props: DeviceProps) -> list[Candidate]:
    schemes = {"bias"} | supports.SCHEMES
    inputs = {"bias", "quantized", "quantized_activation", "static_activation"}
    copy = supports.linear_extra_bytes
    return [
        _candidate(
            "linear",
            "onednn",
            supports.linear,
            "quantization:PackedLinear",
            features={"bias"},
            extra_bytes=copy,
        ),
        _candidate(
            "linear",
            "dequantized",
            supports.dequantized,
            "quantization:DequantizedLinear",
            features=schemes,
            extra_bytes=supports.dequantized_extra_bytes,
        ),
        _candidate("linear.heads", "heads", supports.floats, "quantization:HeadsLinear"),
        _native(
            "linear",
            "linear",
            native.linear,
            "linear:NativeLinear",
            features={"bias"},
            extra_bytes=copy,
        ),
        _native("linear", "int8", native.int8, "linear:NativeLinear", features=inputs),
        _native("linear", "codes", native.codes, "linear:NativeLinear", features=schemes),
    ]


@hookimpl
def inferplane_moe(props: DeviceProps) -> list[Candidate]:
    semantics = {"bias", "limit"} | supports.ACTIVATIONS | supports.SCHEMES
    return [
        _candidate(
            "moe.experts",
            "experts",
            supports.experts,
            "moe:PackedExperts",
            features=semantics,
            extra_bytes=supports.experts_extra_bytes,
            capture="none",
        ),
        _native("moe.experts", "experts", native.experts, "moe:NativeExperts", features=semantics),
        _native("moe.route", "route", native.native, "moe:route", features=supports.ROUTING),
    ]


@hookimpl
def inferplane_blocks(props: DeviceProps) -> list[Candidate]:
    return [
        _candidate(
            "attention.input",
            "attention_input",
            supports.attention_input,
            "ops:AttentionInput",
            features={"qk_norm"},
            level="block",
        ),
        _native(
            "attention.input",
            "attention_input",
            native.attention_input,
            "ops:AttentionInput",
            features={"qk_norm"},
            level="block",
        ),
    ]


@hookimpl
def inferplane_communicator(props: DeviceProps) -> list[Candidate]:
    return [
        _candidate(op, "gloo", supports.collective, "communicator:GlooCommunicator")
        for op in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast")
    ]


@hookimpl
def inferplane_settings(settings: Mapping[str, Any], props: DeviceProps) -> list[SettingProposal]:
    return [
        SettingProposal(
            key="memory_fraction",
            value=0.5,
            reason="the host's memory is shared with other programs",
        ),
        SettingProposal(
            key="max_num_batched_tokens",
            value=1024,
            reason="a longer step would delay running requests for seconds",
        ),
    ]


def _candidate(op: str, name: str, answer: Any, load: str, **options: Any) -> Candidate:
    return Candidate(op=op, name=f"cpu.{name}", supports=answer, load=f"{_HERE}.{load}", **options)


def _native(op: str, name: str, answer: Any, load: str, **options: Any) -> Candidate:
    """A compiled kernel: preferred where there is one."""
    return _candidate(op, f"native_{name}", answer, f"native.{load}", priority=10, **options)
