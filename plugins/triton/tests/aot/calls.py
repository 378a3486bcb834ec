"""Representative calls of every kernel, through the same factories as in the product.

A call's launches are recorded, not done: tensors are on the host and their contents do not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import products
import torch
from inferplane_triton import (
    activation,
    align,
    attention,
    attention_input,
    embedding,
    experts,
    latent,
    linear,
    norm,
    quantize,
    rotary,
    route,
    supports,
    write,
)
from inferplane_triton import launch as launching
from inferplane_triton import sample as sampling

from inferplane.spec import (
    ActivationRequest,
    AttentionInputRequest,
    AttentionLimits,
    AttentionMetadata,
    AttentionRequest,
    DeviceProps,
    EmbeddingRequest,
    GroupKind,
    KVWriteRequest,
    NormRequest,
    Packed,
    RotaryRequest,
    SampleInputs,
    SampleRequest,
)
from inferplane.spec.kv import standard_layout
from inferplane.spec.torch_types import torch_dtype

USERS: tuple[Any, ...] = (
    activation, align, attention, attention_input, embedding, experts, latent, linear, norm,
    quantize, rotary, route, sampling, write,
)  # fmt: skip
TOKENS, ROWS, VOCABULARY = 48, 64, 151_936


@dataclass
class Launch:
    """What one launch was given."""

    kernel: Any
    arguments: tuple[Any, ...]
    constants: dict[str, Any]
    options: dict[str, int]


def recorded(call: Callable[[], Any]) -> list[Launch]:
    """The launches of a call. Modules of the plugin have `launch` by name, so each is replaced."""
    found: list[Launch] = []

    def note(kernel: Any, grid: Any, *arguments: Any, options: Any, **constants: Any) -> None:
        assert 0 not in grid
        found.append(Launch(kernel, arguments, constants, dict(options)))

    real = launching.launch
    assert all(user.launch is real for user in USERS)
    try:
        for user in USERS:
            user.launch = note
        call()
    finally:
        for user in USERS:
            user.launch = real
    return found


def calls(props: DeviceProps) -> Iterator[tuple[str, Callable[[], Any]]]:
    """(name, call). Names are stable: they are keys of the committed figures."""
    yield from _elements(props)
    yield from _heads(props)
    yield from _attention(props)
    yield from _latent(props)
    yield from _sampling(props)
    yield from products.linears(props)
    yield from products.mixtures(props)


def _ones(*shape: int, dtype: str = "bf16") -> torch.Tensor:
    return torch.empty(shape, dtype=torch_dtype(dtype))


def _elements(props: DeviceProps) -> Iterator[tuple[str, Callable[[], Any]]]:

    for dtype, size in (("bf16", 4096), ("fp32", 4096), ("bf16", 16384)):
        request = NormRequest(device=props, size=size, dtype=dtype, eps=1e-6)
        x, w = _ones(TOKENS, size, dtype=dtype), _ones(size, dtype=dtype)
        yield f"norm.rms {dtype} {size}", lambda r=request, x=x, w=w: norm.rms_norm(r)(x, w)
        add = replace(request, op="norm.add_rms")
        yield (
            f"norm.add_rms {dtype} {size}",
            lambda r=add, x=x, w=w: norm.add_rms_norm(r)(x, x.clone(), w),
        )
    request = NormRequest(device=props, size=128, dtype="bf16", eps=1e-6, weight_offset=1.0)
    x, w = _ones(TOKENS, 48, 128)[:, :32], _ones(128)
    yield "norm.rms heads", lambda r=request, x=x, w=w: norm.rms_norm(r)(x, w)
    for kind in sorted(supports.ACTIVATIONS):
        asked = ActivationRequest(device=props, size=12288, dtype="bf16", kind=kind, limit=7.0)
        yield f"activation {kind}", lambda r=asked: activation.gated(r)(_ones(TOKENS, 2 * 12288))
    rows = EmbeddingRequest(device=props, vocab=1024, size=4096, dtype="bf16")
    ids, table = (
        torch.zeros(TOKENS, dtype=torch.int64),
        Packed(data=(_ones(1024, 4096), 0), final_bytes=0),
    )
    yield "embedding", lambda: embedding.Embedding(rows)(ids, table)


def _heads(props: DeviceProps) -> Iterator[tuple[str, Callable[[], Any]]]:

    kv_types = ["bf16", "fp8_e4m3"] if "fp8_e4m3_convert" in props.capabilities else ["bf16"]
    positions, slots = (
        torch.zeros(TOKENS, dtype=torch.int64),
        torch.zeros(TOKENS, dtype=torch.int64),
    )
    shapes = {
        "neox": {"head_dim": 128, "rotary_dim": 128},
        "interleaved": {"head_dim": 128, "rotary_dim": 128},
        "partial": {"head_dim": 96, "rotary_dim": 24},
    }
    for name, sizes in shapes.items():
        turning = RotaryRequest(
            device=props,
            heads=32,
            kv_heads=8,
            dtype="bf16",
            style="interleaved" if name == "interleaved" else "neox",
            **sizes,
        )
        size = turning.head_dim
        qkv, table = _ones(TOKENS, 48 * size), _ones(1024, turning.rotary_dim, dtype="fp32")
        q, k, v = qkv.view(TOKENS, 48, size).split((32, 8, 8), 1)
        yield (
            f"rotary {name}",
            lambda r=turning, q=q, k=k, t=table: rotary.Rotary(r)(q, k, (t, positions)),
        )
        for kv in kv_types:
            writing = KVWriteRequest(
                device=props, layout="standard", kv_heads=8, head_dim=size, dtype="bf16",
                kv_dtype=kv, page_size=16,
            )  # fmt: skip
            cache = _ones(8, 16, 2, 8, size, dtype=kv)
            yield (
                f"kv.write {name} {kv}",
                lambda r=writing, k=k, v=v, c=cache: write.kv_write(r)(k, v, c, slots),
            )
            normed = NormRequest(device=props, size=size, dtype="bf16", eps=1e-6)
            block = AttentionInputRequest(
                device=props, rotary=turning, write=writing, qk_norm=normed
            )
            weight = Packed(data=_ones(2, size), final_bytes=0)
            yield (
                f"attention.input {name} {kv}",
                lambda r=block, x=qkv, c=cache, t=table, w=weight: attention_input.AttentionInput(
                    r
                )(x, c, slots, (t, positions), w),
            )


ATTENTION: dict[str, dict[str, Any]] = {
    "bf16 H32 K8 D128": {},
    "fp16 H32 K8 D128": {"dtype": "fp16"},
    "fp32 H32 K8 D128": {"dtype": "fp32"},
    "bf16 H32 K8 D128 fp8": {"kv_dtype": "fp8_e4m3"},
    "bf16 H32 K32 D64": {"kv_heads": 32, "head_dim": 64},
    "bf16 H64 K8 D64 sinks window": {"heads": 64, "head_dim": 64, "sinks": True, "window": 128},
    "bf16 H16 K8 D256 softcap": {"heads": 16, "head_dim": 256, "softcap": 50.0},
    "bf16 H32 K8 D96": {"head_dim": 96},
    "bf16 H32 K32 D80": {"kv_heads": 32, "head_dim": 80},
    "bf16 H48 K1 D128": {"heads": 48, "kv_heads": 1},
    "bf16 H32 K8 D128 P128": {"page_size": 128},
    "fp32 H16 K8 D256": {"heads": 16, "head_dim": 256, "dtype": "fp32"},
    "bf16 H32 K8 D128 fp8 scales": {"kv_dtype": "fp8_e4m3", "kv_scales": True},
}
LATENT: dict[str, dict[str, Any]] = {
    "bf16 H128": {},
    "bf16 H16": {"heads": 16},
    "bf16 H16 fp8 scales": {"heads": 16, "kv_dtype": "fp8_e4m3", "kv_scales": True},
}


def _attention(props: DeviceProps) -> Iterator[tuple[str, Callable[[], Any]]]:
    for name, fields in ATTENTION.items():
        given = {"heads": 32, "kv_heads": 8, "head_dim": 128, "dtype": "bf16", "page_size": 16}
        given |= fields
        given.setdefault("kv_dtype", given["dtype"])
        kind = GroupKind.WINDOW if given.get("window") else GroupKind.FULL
        request = AttentionRequest(
            device=props, scale=given["head_dim"] ** -0.5, kind=kind, **given
        )
        if not supports.attention(request).ok:
            continue
        for part, counts in (("decode", [1] * ROWS), ("few", [1, 1]), ("prefill", [40, 8])):
            yield f"attention {part} {name}", lambda r=request, c=counts: _attend(r, c)


def _latent(props: DeviceProps) -> Iterator[tuple[str, Callable[[], Any]]]:
    for name, fields in LATENT.items():
        given = {"heads": 128, "dtype": "bf16", "kv_dtype": "bf16"} | fields
        request = AttentionRequest(
            device=props, kind=GroupKind.LATENT, kv_heads=1, head_dim=576, value_dim=512,
            page_size=64, scale=0.1, **given,
        )  # fmt: skip
        if not supports.latent(request).ok:
            continue
        for part, counts in (("decode", [1] * ROWS), ("few", [1, 1]), ("prefill", [40, 8])):
            yield f"latent {part} {name}", lambda r=request, c=counts: _attend(r, c)
        writing = KVWriteRequest(
            device=props, layout="latent", kv_heads=1, head_dim=576, page_size=64,
            kv_scales=request.kv_scales, dtype="bf16", kv_dtype=request.kv_dtype,
        )  # fmt: skip
        k, cache = _ones(TOKENS, 1, 576), _ones(8, 64, 576, dtype=request.kv_dtype)
        slots, scales = torch.zeros(TOKENS, dtype=torch.int64), _ones(2, dtype="fp32")
        yield (
            f"kv.write latent {name}",
            lambda r=writing, k=k, c=cache, s=slots, x=scales: write.kv_write(r)(k, k, c, s, x),
        )


def _attend(r: AttentionRequest, counts: list[int]) -> None:

    latent_group = r.kind is GroupKind.LATENT
    kernel: Any = latent.LatentAttention(r) if latent_group else attention.Attention(r)
    rows, tokens = len(counts), sum(counts)
    limits = AttentionLimits(max_rows=64, max_tokens=64, max_context=8192)
    buffers = kernel.buffers(limits, torch.device("cpu"))
    plan = kernel.plan(
        AttentionMetadata(
            query_starts=np.cumsum([0, *counts]).astype(np.int32),
            context_lens=np.full(rows, 128, np.int32),
            page_table=np.zeros((rows, -(-128 // r.page_size)), np.int32),
            slots=np.zeros(tokens, np.int64),
            decodes=rows if tokens == rows else 0,
            device_slots=torch.zeros(tokens, dtype=torch.int64),
        ),
        buffers,
    )
    qkv = _ones(tokens, r.heads + 2 * r.kv_heads, r.head_dim, dtype=r.dtype)
    q, k, v = qkv.split((r.heads, r.kv_heads, r.kv_heads), 1)
    cache = _ones(8, *standard_layout(r).shape, dtype=r.kv_dtype)
    out = _ones(tokens, r.heads, r.out_dim, dtype=r.dtype)
    sinks = _ones(r.heads, dtype=r.dtype) if r.sinks else None
    kernel.run(q, k, v, cache, plan, out, sinks, _ones(2, dtype="fp32") if r.kv_scales else None)


def _sampling(props: DeviceProps) -> Iterator[tuple[str, Callable[[], Any]]]:

    request = SampleRequest(device=props, vocab=VOCABULARY)
    rows = 4
    logits = _ones(rows, VOCABULARY, dtype="fp32")
    floats = _ones(rows, dtype="fp32")
    random = {
        "greedy_B": torch.zeros(rows, dtype=torch.bool),
        "temperature_B": floats,
        "seed_B2": torch.zeros((rows, 2), dtype=torch.int64),
    }
    few = torch.zeros(3, dtype=torch.int64)
    batches: dict[str, dict[str, Any]] = {
        "greedy": {},
        "random": random,
        "top-k": random | {"top_k_B": torch.ones(rows, dtype=torch.int32)},
        "top-p": random | {"top_p_B": floats},
        "all": random
        | {
            "top_k_B": torch.ones(rows, dtype=torch.int32),
            "top_p_B": floats,
            "min_p_B": floats,
            "counts_BV": torch.zeros((rows, VOCABULARY), dtype=torch.int32),
            "prompt_BV": torch.zeros((rows, VOCABULARY), dtype=torch.bool),
            "penalties_B3": _ones(rows, 3, dtype="fp32"),
            "mask_BN": torch.zeros((rows, VOCABULARY // 32), dtype=torch.int32),
            "bias": (few, few, _ones(3, dtype="fp32")),
            "logprobs": 3,
        },
    }
    for name, given in batches.items():
        yield f"sample {name}", lambda g=given: sampling.sample(request)(logits, SampleInputs(**g))
