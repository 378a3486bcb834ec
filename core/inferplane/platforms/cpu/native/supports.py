"""What the compiled kernels can serve: pure functions of a request. No torch."""

from __future__ import annotations

from typing import Any

from inferplane.spec import (
    ActivationRequest,
    AttentionInputRequest,
    AttentionRequest,
    ExpertsRequest,
    LinearRequest,
    NormRequest,
    QuantScheme,
    Support,
)

from .. import supports as plain


def native(request: Any) -> Support:
    """Whether this machine has the compiled kernels."""
    if request.device.detail("native", "no") == "no":
        why = request.device.detail("native_reason", "this profile plans without a compiler")
        return Support.no(f"no compiled kernels: {why}")
    return plain.floats(request)


def products(request: Any) -> Support:
    """Whether they have products too: for those the processor needs more instructions."""
    if request.device.detail("native") == "vector":
        missing = request.device.detail("native_missing", "instructions for products")
        return Support.no(f"the processor has no {missing}", instead="cpu.onednn")
    return native(request)


def linear(request: LinearRequest) -> Support:
    if request.scheme.quantized:
        return Support.no(f"scheme is {request.scheme.name}, it has unquantized weights")
    inputs = own_inputs(request)
    if request.dtype != "bf16" or inputs % 2:
        return Support.no(
            f"{request.dtype} with {inputs} inputs, it has bf16 and even numbers",
            instead="cpu.onednn",
        )
    return products(request)


def own_inputs(request: LinearRequest) -> int:
    """Of this rank."""
    return request.in_features // (request.shards if request.sharding == "row" else 1)


def int8(request: LinearRequest) -> Support:
    """Integer products: 8-bit weights with one scale an output, and 8-bit inputs."""
    if not integers(request.scheme):
        return Support.no(
            f"scheme is {request.scheme.name or 'none'}, it has int8 weights by output or tensor "
            "with int8 inputs by token or tensor",
            instead="cpu.native_codes",
        )
    return products(request)


def codes(request: LinearRequest) -> Support:
    if integers(request.scheme):
        return Support.no(f"{request.scheme.name} are integers", instead="cpu.native_int8")
    answer = _codes(request.scheme, request.dtype, own_inputs(request))
    return products(request) if answer.ok else answer


def experts(request: ExpertsRequest) -> Support:
    if request.activation not in plain.ACTIVATIONS:
        return Support.no(f"activation is {request.activation}, there are {plain.ACTIVATION_WORDS}")
    for inputs in (request.hidden, request.intermediate):
        if not request.scheme.quantized:
            if request.dtype != "bf16" or inputs % 2:
                return Support.no(
                    f"{request.dtype} with {inputs} inputs, it has bf16 and even numbers",
                    instead="cpu.experts",
                )
        elif not integers(request.scheme):
            answer = _codes(request.scheme, request.dtype, inputs, instead="cpu.experts")
            if not answer.ok:
                return answer
    return products(request)


def integers(scheme: QuantScheme) -> bool:
    """Whether both sides are 8-bit integers with one scale an output and a token."""
    return (
        scheme.weight == "int8"
        and scheme.activation in ("int8", "int4")
        and scheme.granularity in ("tensor", "channel")
        and (scheme.activation_granularity != "group" or not scheme.dynamic)
        and scheme.activation_scale == "fp32"
        and not (scheme.zero_point or scheme.global_scale)
    )


def _codes(
    scheme: QuantScheme, dtype: str, inputs: int, instead: str = "cpu.dequantized"
) -> Support:
    """Weights of 4 or 8 bits whose values, and whose inputs' codes, are exact in bf16."""
    if not scheme.quantized:
        return Support.no("the weights are not quantized", instead="cpu.native_linear")
    known = plain.scheme(scheme)
    if not known.ok:
        return known
    group = {"group": scheme.group, "block": scheme.block[1]}.get(scheme.granularity, 0)
    step = 4 if scheme.packed == 2 else 2
    by_group = scheme.activation_granularity == "group" and scheme.dynamic
    scaled = scheme.activation_scale == "fp32"
    why = ""
    if dtype != "bf16" and not scheme.activation:
        why = f"inputs are {dtype}, it multiplies bf16 or inputs of fewer bits"
    elif inputs % step or group % step:
        why = f"{inputs} inputs in groups of {group or inputs}, it has multiples of {step}"
    elif scheme.weight == "int8" and scheme.zero_point:
        why = "int8 weights with zero points; it has those of uint8"
    elif scheme.activation and by_group and scaled and scheme.activation_group != group:
        why = f"inputs share scales by {scheme.activation_group}, weights by {group or 'output'}"
    return Support.no(why, instead=instead) if why else Support.yes()


def norm(request: NormRequest) -> Support:
    if request.size % 16:
        return Support.no(f"size is {request.size}, it has multiples of 16")
    return native(request)


def activation(request: ActivationRequest) -> Support:
    if request.size % 16:
        return Support.no(f"size is {request.size}, it has multiples of 16")
    return native(request)


def attention_input(request: AttentionInputRequest) -> Support:
    if request.rotary.head_dim % 32:
        return Support.no(f"head size is {request.rotary.head_dim}, it has multiples of 32")
    answer = plain.attention_input(request)
    return native(request.rotary) if answer.ok else answer


def attention(request: AttentionRequest) -> Support:
    size, groups = request.head_dim, request.heads / request.kv_heads
    if size % 16 or size > 256:
        return Support.no(f"head size is {size}, it has multiples of 16 up to 256")
    if groups != int(groups) or groups > 16:
        return Support.no(f"{groups:g} query heads a kv head, it has 1 to 16")
    if request.kv_dtype != request.dtype:
        return Support.no(
            f"KV dtype is {request.kv_dtype}, it must be {request.dtype}", instead="cpu.flash"
        )
    answer = plain.attention(request)
    return native(request) if answer.ok else answer
