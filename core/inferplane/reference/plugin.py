"""Offers the reference kernels to every platform, through the same hooks as anyone's. No torch."""

from __future__ import annotations

from typing import Any

from inferplane.spec import (
    SPEC_VERSION,
    AttentionRequest,
    Candidate,
    DeviceProps,
    ExpertsRequest,
    FeatureSpec,
    GroupKind,
    LinearRequest,
    QuantScheme,
    Support,
    hookimpl,
)

_ACTIVATIONS = ("silu", "gelu", "gelu_tanh", "swigluoai")
_WEIGHTS = (
    *("int8", "uint8", "int4", "uint4", "fp8_e4m3", "fp8_e5m2", "fp8_e4m3fnuz"),
    *("fp4_e2m1", "nf4"),
)
_INPUTS = ("", "int8", "int4", "fp8_e4m3", "fp8_e5m2", "fp8_e4m3fnuz", "fp4_e2m1")
_SCALES = ("fp32", "bf16", "fp16", "ue8m0", "fp8_e4m3")


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
        ),
        Candidate(
            op="linear.heads",
            name="reference.linear.heads",
            supports=_any,
            load="inferplane.spec:TorchHeadsLinear",
        ),
    ]


@hookimpl
def inferplane_moe(props: DeviceProps) -> list[Candidate]:
    return [
        Candidate(
            op="moe.route",
            name="reference.moe.route",
            supports=_any,
            load="inferplane.reference.moe:route",
        ),
        Candidate(
            op="moe.experts",
            name="reference.moe.experts",
            supports=_experts,
            load="inferplane.reference.moe:Experts",
            capture="none",
        ),
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
    if request.layout not in ("standard", "latent"):
        return Support.no(f"layout is {request.layout!r}, it writes the standard and latent ones")
    return Support.yes()


def _attention(request: AttentionRequest) -> Support:
    if request.kind is GroupKind.STATE:
        return Support.no("KV group kind is state, it has full, window and latent")
    return Support.yes()


def _linear(request: LinearRequest) -> Support:
    if request.adapters:
        return Support.no("adapters are asked for, it has none")
    return _scheme(request.scheme, request.device)


def _experts(request: ExpertsRequest) -> Support:
    if request.activation not in _ACTIVATIONS:
        return Support.no(
            f"activation is {request.activation}, there are {', '.join(_ACTIVATIONS)}"
        )
    return _scheme(request.scheme, request.device)


def _scheme(scheme: QuantScheme, device: DeviceProps) -> Support:
    if not scheme.quantized:
        return Support.yes()
    for what, value, known in (
        ("weight type", scheme.weight, _WEIGHTS),
        ("input type", scheme.activation, _INPUTS),
        ("scale type", scheme.scale, _SCALES),
        ("input scale type", scheme.activation_scale, ("fp32", "ue8m0", "fp8_e4m3")),
    ):
        if value not in known:
            return Support.no(f"{what} is {value}, there are {', '.join(filter(None, known))}")
        if value.startswith("fp8") and not _has(value, device):
            return Support.no(
                f"{what} is {value}, which {device.name} neither computes with nor converts "
                f"(no capability '{value}_convert')"
            )
    return Support.yes()


def _has(dtype: str, device: DeviceProps) -> bool:
    return dtype in device.dtypes or f"{dtype}_convert" in device.capabilities
