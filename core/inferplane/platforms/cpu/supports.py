"""What the CPU's kernels can serve: pure functions of a request."""

from __future__ import annotations

from typing import Any

from inferplane.spec import (
    ActivationRequest,
    AttentionInputRequest,
    AttentionRequest,
    GroupKind,
    KVWriteRequest,
    LinearRequest,
    NormRequest,
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


def native(request: Any) -> Support:
    """Whether this machine has the compiled kernels."""
    if request.device.detail("native", "no") == "no":
        why = request.device.detail("native_reason", "this profile plans without a compiler")
        return Support.no(f"no compiled kernels: {why}")
    return floats(request)


def native_linear(request: LinearRequest) -> Support:
    if request.dtype != "bf16" or request.in_features % 2:
        return Support.no(
            f"{request.dtype} with {request.in_features} inputs, it has bf16 and even numbers",
            instead="cpu.onednn",
        )
    if request.device.detail("native") == "vector":
        return Support.no("the processor has no avx512_bf16", instead="cpu.onednn")
    plain = linear(request)
    return native(request) if plain.ok else plain


def native_norm(request: NormRequest) -> Support:
    if request.size % 16:
        return Support.no(f"size is {request.size}, it has multiples of 16")
    return native(request)


def native_activation(request: ActivationRequest) -> Support:
    if request.size % 16:
        return Support.no(f"size is {request.size}, it has multiples of 16")
    return native(request)


def native_attention_input(request: AttentionInputRequest) -> Support:
    if request.rotary.head_dim % 32:
        return Support.no(f"head size is {request.rotary.head_dim}, it has multiples of 32")
    plain = attention_input(request)
    return native(request.rotary) if plain.ok else plain


def native_attention(request: AttentionRequest) -> Support:
    size, groups = request.head_dim, request.heads / request.kv_heads
    if size % 16 or size > 256:
        return Support.no(f"head size is {size}, it has multiples of 16 up to 256")
    if groups != int(groups) or groups > 16:
        return Support.no(f"{groups:g} query heads a kv head, it has 1 to 16")
    plain = attention(request)
    return native(request) if plain.ok else plain
