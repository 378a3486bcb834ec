"""What the simulator's kernels can serve: pure functions of a request."""

from __future__ import annotations

from typing import Any

from inferplane.spec import (
    AttentionInputRequest,
    AttentionRequest,
    ExpertsRequest,
    GroupKind,
    KVWriteRequest,
    LinearRequest,
    Request,
    Support,
)

ACTIVATIONS = frozenset({"silu", "gelu", "gelu_tanh"})
INTEGERS = ("", "int8", "int4", "uint8", "uint4")
SCHEMES = frozenset(
    {"quantized", "zero_point", "reordered", "quantized_activation", "static_activation"}
)
ROUTING = frozenset(
    {"sigmoid", "no_renormalize", "bias", "groups", "group_max", "scaling", "shared"}
)
COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast")


def floats(request: Any) -> Support:
    has = request.device.dtypes
    if request.dtype not in has:
        return Support.no(f"dtype is {request.dtype}, the device has {', '.join(sorted(has))}")
    return Support.yes()


def rotary(request: Any) -> Support:
    if request.axes != 1:
        return Support.no(f"positions have {request.axes} axes, it has one")
    return floats(request)


def embedding(request: Any) -> Support:
    if request.sharding != "none":
        return Support.no("the table is sharded, it has whole tables")
    return floats(request)


def activation(request: Any) -> Support:
    if request.kind not in ACTIVATIONS:
        return Support.no(f"activation is {request.kind}, it has {', '.join(sorted(ACTIVATIONS))}")
    return floats(request)


def kv_write(request: KVWriteRequest) -> Support:
    if request.layout != "standard":
        return Support.no(f"layout is {request.layout!r}, it writes the standard one")
    if request.kv_dtype != request.dtype:
        return Support.no(f"KV dtype is {request.kv_dtype}, it must be {request.dtype}")
    return _page(request, request.page_size) and floats(request)


def attention(request: AttentionRequest) -> Support:
    if request.kind not in (GroupKind.FULL, GroupKind.WINDOW):
        return Support.no(f"KV group kind is {request.kind.value}, it has full and window")
    if request.kv_dtype != request.dtype:
        return Support.no(f"KV dtype is {request.kv_dtype}, it must be {request.dtype}")
    if not request.causal:
        return Support.no("it is causal only", instead="reference.attention")
    return _page(request, request.page_size) and floats(request)


def attention_input(request: AttentionInputRequest) -> Support:
    return kv_write(request.write) and rotary(request.rotary)


def linear(request: LinearRequest) -> Support:
    if request.scheme.quantized:
        return Support.no(
            f"scheme is {request.scheme.name}, it has unquantized weights",
            instead="sim.quantized_linear",
        )
    return floats(request)


def quantized_linear(request: LinearRequest) -> Support:
    if not request.scheme.quantized:
        return Support.no("weights are not quantized", instead="sim.linear")
    return _scheme(request) and floats(request)


def experts(request: ExpertsRequest) -> Support:
    if request.activation not in ACTIVATIONS:
        there = ", ".join(sorted(ACTIVATIONS))
        return Support.no(f"activation is {request.activation}, it has {there}")
    if request.scheme.quantized and not _scheme(request):
        return _scheme(request)
    return floats(request)


def _scheme(request: LinearRequest | ExpertsRequest) -> Support:
    """Integer schemes everywhere; others where the device has the types."""
    scheme, has = request.scheme, request.device.dtypes
    for what, dtype in (
        ("weights are", scheme.weight),
        ("inputs are", scheme.activation),
        ("scales are", scheme.scale),
        ("input scales are", scheme.activation_scale),
    ):
        if dtype not in (*INTEGERS, *has):
            there = ", ".join(sorted({*INTEGERS, *has} - {""}))
            return Support.no(f"{what} {dtype}, the device has {there}")
    return Support.yes()


def collective(request: Any) -> Support:
    return floats(request)


def graph(request: Request) -> Support:
    if "graph_capture" not in request.device.capabilities:
        return Support.no("the device has no graph_capture")
    return Support.yes()


def _page(request: Any, size: int) -> Support:
    allowed = request.device.page_sizes
    if allowed and size not in allowed:
        return Support.no(f"page size is {size}, the device has {', '.join(map(str, allowed))}")
    return Support.yes()
