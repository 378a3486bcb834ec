"""What the CPU's kernels can serve: pure functions of a request."""

from __future__ import annotations

from typing import Any

from inferplane.spec import (
    AttentionInputRequest,
    AttentionRequest,
    ExpertsRequest,
    GroupKind,
    KVWriteRequest,
    LinearRequest,
    QuantScheme,
    Support,
    size_in_bytes,
)

FLOATS = ("fp32", "bf16")
KV_TYPES = (*FLOATS, "fp8_e4m3", "fp8_e5m2")
NARROW_KV = frozenset({"kv_dtype", "kv_scales"})
ACTIVATIONS = frozenset({"silu", "gelu", "gelu_tanh", "swigluoai"})
ACTIVATION_WORDS = "silu, gelu, gelu_tanh, swigluoai"
SCHEMES = frozenset(
    {
        "quantized",
        "zero_point",
        "reordered",
        "global_scale",
        "quantized_activation",
        "static_activation",
    }
)
"""Semantics of quantization schemes, all of which every kernel for them handles."""

ROUTING = frozenset(
    {"sigmoid", "no_renormalize", "bias", "groups", "group_max", "scaling", "shared"}
)
_WEIGHTS = (
    *("int8", "uint8", "int4", "uint4", "fp8_e4m3", "fp8_e5m2", "fp8_e4m3fnuz"),
    *("fp4_e2m1", "nf4"),
)
_INPUTS = ("int8", "int4", "fp8_e4m3", "fp8_e5m2", "fp8_e4m3fnuz", "fp4_e2m1")
_SCALES = ("fp32", "bf16", "fp16", "ue8m0", "fp8_e4m3")
SAMPLING = frozenset(
    {
        "random",
        "top_k",
        "top_p",
        "min_p",
        "penalties",
        "bias",
        "mask",
        "processors",
        "logprobs",
    }
)


def floats(request: Any) -> Support:
    if request.dtype not in FLOATS:
        return Support.no(f"dtype is {request.dtype}, the CPU has {' and '.join(FLOATS)}")
    return Support.yes()


def activation(request: Any) -> Support:
    if request.kind not in ACTIVATIONS:
        return Support.no(f"activation is {request.kind}, there are {ACTIVATION_WORDS}")
    return floats(request)


def kv_write(request: KVWriteRequest) -> Support:
    if request.layout not in ("standard", "latent"):
        return Support.no(f"layout is {request.layout!r}, it writes the standard and latent ones")
    if request.kv_dtype not in KV_TYPES:
        return Support.no(f"KV dtype is {request.kv_dtype}, there are {', '.join(KV_TYPES)}")
    return floats(request)


def sample(request: Any) -> Support:
    if request.dtype != "fp32":
        return Support.no(f"logits are {request.dtype}, it takes fp32")
    return Support.yes()


def attention(request: AttentionRequest) -> Support:
    if request.kind not in (GroupKind.FULL, GroupKind.WINDOW):
        return Support.no(
            f"KV group kind is {request.kind.value}, it has full and window",
            instead="cpu.latent" if request.kind is GroupKind.LATENT else "",
        )
    if request.kv_dtype not in KV_TYPES:
        return Support.no(f"KV dtype is {request.kv_dtype}, there are {', '.join(KV_TYPES)}")
    if not request.causal:
        return Support.no("it is causal only", instead="reference.attention")
    return floats(request)


def latent(request: AttentionRequest) -> Support:
    if request.kind is not GroupKind.LATENT:
        return Support.no(f"KV group kind is {request.kind.value}, it has latent ones")
    if request.kv_dtype not in KV_TYPES:
        return Support.no(f"KV dtype is {request.kv_dtype}, there are {', '.join(KV_TYPES)}")
    if not request.causal:
        return Support.no("it is causal only", instead="reference.attention")
    return floats(request)


def attention_input(request: AttentionInputRequest) -> Support:
    if request.write.layout != "standard":
        return Support.no(f"layout is {request.write.layout!r}, it writes the standard one")
    if request.write.kv_dtype != request.write.dtype:
        return Support.no(
            f"KV dtype is {request.write.kv_dtype}, it must be {request.write.dtype}",
            instead="cpu.kv_write",
        )
    written = kv_write(request.write)
    return written if not written.ok else floats(request.rotary)


def linear(request: LinearRequest) -> Support:
    if request.scheme.quantized:
        return Support.no(
            f"scheme is {request.scheme.name}, it has unquantized weights",
            instead="cpu.dequantized",
        )
    return floats(request)


def dequantized(request: LinearRequest) -> Support:
    if not request.scheme.quantized:
        return Support.no("the weights are not quantized", instead="cpu.onednn")
    answer = scheme(request.scheme)
    return floats(request) if answer.ok else answer


def experts(request: ExpertsRequest) -> Support:
    if request.activation not in ACTIVATIONS:
        return Support.no(f"activation is {request.activation}, there are {ACTIVATION_WORDS}")
    answer = scheme(request.scheme)
    return floats(request) if answer.ok else answer


def scheme(scheme: QuantScheme) -> Support:
    """Whether the numbers of a scheme are known here."""
    if not scheme.quantized:
        return Support.yes()
    for what, value, known in (
        ("weight type", scheme.weight, _WEIGHTS),
        ("input type", scheme.activation, ("", *_INPUTS)),
        ("scale type", scheme.scale, _SCALES),
        ("input scale type", scheme.activation_scale, ("fp32", "ue8m0")),
    ):
        if value not in known:
            return Support.no(f"{what} is {value}, there are {', '.join(filter(None, known))}")
    powers = scheme.activation_scale == "ue8m0"
    if powers and scheme.activation not in ("fp8_e4m3", "fp8_e5m2", "fp4_e2m1"):
        return Support.no(f"inputs are {scheme.activation} with ue8m0 scales, floats may have them")
    return Support.yes()


def dequantized_extra_bytes(request: LinearRequest) -> int:
    """What the dequantized weight takes beyond the stored one. Scales are not counted."""
    shape = (request.out_features, request.in_features)
    return size_in_bytes(shape, request.dtype) - size_in_bytes(shape, request.scheme.weight)


def experts_extra_bytes(request: ExpertsRequest) -> int:
    """The same for experts, which are kept as they are where they are not quantized."""
    if not request.scheme.quantized:
        return 0
    shape = (request.experts, 3 * request.intermediate, request.hidden)
    dtype = "fp32" if request.scheme.activation else request.dtype
    return size_in_bytes(shape, dtype) - size_in_bytes(shape, request.scheme.weight)


def linear_extra_bytes(request: LinearRequest) -> int:
    """Packing copies: a tied weight stays beside the packed one."""
    return size_in_bytes((request.out_features, request.in_features), request.dtype)


def collective(request: Any) -> Support:
    return floats(request)
