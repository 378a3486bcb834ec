"""Offers the reference kernels to every platform, through the same hooks as anyone's. No torch."""

from __future__ import annotations

from typing import Any

from inferplane.spec import (
    SPEC_VERSION,
    AttentionRequest,
    Candidate,
    DeviceProps,
    FeatureSpec,
    GroupKind,
    LinearRequest,
    Support,
    hookimpl,
)

_ACTIVATIONS = ("silu", "gelu", "gelu_tanh")


@hookimpl
def inferplane_feature() -> FeatureSpec:
    return FeatureSpec(name="reference", api=SPEC_VERSION)


@hookimpl
def inferplane_ops(props: DeviceProps) -> list[Candidate]:
    table = {
        "embedding": (_any, "embedding:Embedding"),
        "norm.rms": (_any, "norm:rms_norm"),
        "norm.add_rms": (_any, "norm:add_rms_norm"),
        "rotary": (_rotary, "rotary:Rotary"),
        "sample": (_sample, "sample:sample"),
    }
    ops = [
        Candidate(
            op=op, name=f"reference.{op}", supports=answer, load=f"inferplane.reference.{load}"
        )
        for op, (answer, load) in table.items()
    ]
    return [
        *ops,
        Candidate(
            op="activation.gated",
            name="reference.activation.gated",
            supports=_activation,
            load="inferplane.reference.activation:gated",
        ),
        Candidate(
            op="kv.write",
            name="reference.kv.write",
            supports=_write,
            load="inferplane.reference.kv:write",
        ),
    ]


@hookimpl
def inferplane_attention(props: DeviceProps) -> list[Candidate]:
    return [
        Candidate(
            op="attention",
            name="reference.attention",
            supports=_attention,
            load="inferplane.reference.attention:Attention",
            capture="none",
        )
    ]


@hookimpl
def inferplane_quantization(props: DeviceProps) -> list[Candidate]:
    return [
        Candidate(
            op="linear",
            name="reference.linear",
            supports=_linear,
            load="inferplane.reference.linear:Linear",
        )
    ]


def _any(request: Any) -> Support:
    return Support.yes()


def _rotary(request: Any) -> Support:
    if request.axes != 1:
        return Support.no(f"positions have {request.axes} axes, it has one")
    return Support.yes()


def _sample(request: Any) -> Support:
    if request.shards > 1:
        return Support.no(f"logits are in {request.shards} shards, it takes whole rows")
    return Support.yes()


def _activation(request: Any) -> Support:
    if request.kind not in _ACTIVATIONS:
        return Support.no(f"activation is {request.kind}, there are {', '.join(_ACTIVATIONS)}")
    return Support.yes()


def _write(request: Any) -> Support:
    if request.layout != "standard":
        return Support.no(f"layout is {request.layout!r}, it writes the standard one")
    return Support.yes()


def _attention(request: AttentionRequest) -> Support:
    if request.kind not in (GroupKind.FULL, GroupKind.WINDOW):
        return Support.no(f"KV group kind is {request.kind.value}, it has full and window")
    return Support.yes()


def _linear(request: LinearRequest) -> Support:
    if request.scheme.quantized:
        return Support.no(f"scheme is {request.scheme.name}, it has unquantized weights only")
    if request.adapters:
        return Support.no("adapters are asked for, it has none")
    return Support.yes()
