"""What the CPU's kernels can serve: pure functions of a request."""

from __future__ import annotations

from typing import Any

from inferplane.spec import (
    AttentionInputRequest,
    AttentionRequest,
    GroupKind,
    KVWriteRequest,
    LinearRequest,
    Support,
    size_in_bytes,
)

FLOATS = ("fp32", "bf16")
ACTIVATIONS = frozenset({"silu", "gelu", "gelu_tanh"})
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
        return Support.no(f"activation is {request.kind}, there are {', '.join(ACTIVATIONS)}")
    return floats(request)


def kv_write(request: KVWriteRequest) -> Support:
    if request.layout != "standard":
        return Support.no(f"layout is {request.layout!r}, it writes the standard one")
    if request.kv_dtype != request.dtype:
        return Support.no(f"KV dtype is {request.kv_dtype}, it must be {request.dtype}")
    return floats(request)


def sample(request: Any) -> Support:
    if request.dtype != "fp32":
        return Support.no(f"logits are {request.dtype}, it takes fp32")
    return Support.yes()


def attention(request: AttentionRequest) -> Support:
    if request.kind not in (GroupKind.FULL, GroupKind.WINDOW):
        return Support.no(f"KV group kind is {request.kind.value}, it has full and window")
    if request.kv_dtype != request.dtype:
        return Support.no(f"KV dtype is {request.kv_dtype}, it must be {request.dtype}")
    if not request.causal:
        return Support.no("it is causal only", instead="reference.attention")
    return floats(request)


def attention_input(request: AttentionInputRequest) -> Support:
    written = kv_write(request.write)
    return written if not written.ok else floats(request.rotary)


def linear(request: LinearRequest) -> Support:
    if request.scheme.quantized:
        return Support.no(f"scheme is {request.scheme.name}, it has unquantized weights")
    return floats(request)


def linear_extra_bytes(request: LinearRequest) -> int:
    """Packing copies: a tied weight stays beside the packed one."""
    return size_in_bytes((request.out_features, request.in_features), request.dtype)


def collective(request: Any) -> Support:
    return floats(request)
