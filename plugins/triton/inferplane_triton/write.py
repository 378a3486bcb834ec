"""KV write into the standard layout, whose page is [P, 2, K, D], or the latent one, [P, D].

Legend: T tokens, K kv heads, D head size, P page.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
import triton.language as tl

from inferplane.spec import KVWriteRequest

from .launch import between, launch, power_of_two


@triton.jit
def to_cache(x, cache, FP8: tl.constexpr):
    """fp32 `x` in the cache's type. FP8: values beyond the largest of e4m3, 448, become it."""
    if FP8:
        x = tl.minimum(tl.maximum(x, -448.0), 448.0)
    return x.to(cache.dtype.element_ty)


@triton.jit
def write_kernel(
    k, v, cache, slots, kv_scales, k_t, k_h, v_t, v_h, HEADS: tl.constexpr, SIZE: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_D: tl.constexpr, FP8: tl.constexpr, LATENT: tl.constexpr,
    SCALES: tl.constexpr,
):  # fmt: skip
    """One program writes BLOCK_H heads of one token. A slot of -1 is padding. LATENT: there are no
    values. SCALES: keys and values are divided by theirs."""
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + token).to(tl.int64)
    head = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    d = tl.arange(0, BLOCK_D)
    mask = (head < HEADS)[:, None] & (d < SIZE)[None, :] & (slot >= 0)
    given = tl.load(k + token * k_t + head[:, None] * k_h + d[None, :], mask=mask, other=0.0)
    key = given.to(tl.float32)
    if SCALES:
        key = key / tl.load(kv_scales)
    token_size: tl.constexpr = SIZE if LATENT else 2 * HEADS * SIZE
    place = cache + slot * token_size + head[:, None] * SIZE + d[None, :]
    tl.store(place, to_cache(key, cache, FP8), mask=mask)
    if not LATENT:
        given = tl.load(v + token * v_t + head[:, None] * v_h + d[None, :], mask=mask, other=0.0)
        value = given.to(tl.float32)
        if SCALES:
            value = value / tl.load(kv_scales + 1)
        tl.store(place + HEADS * SIZE, to_cache(value, cache, FP8), mask=mask)


def kv_write(request: KVWriteRequest) -> Callable[..., None]:
    """op "kv.write": k and v [T, K, D] with any strides but 1 for the last axis; slots [T] int32 or
    int64, -1 is skipped. kv_scales: fp32 [2], of keys and of values."""
    heads, size = request.kv_heads, request.head_dim
    latent = request.layout == "latent"
    block_d = power_of_two(size)
    block_h = between(1, 2048 // block_d, power_of_two(heads))

    def run(
        k_TKD: torch.Tensor,
        v_TKD: torch.Tensor,
        cache: torch.Tensor,
        slots_T: torch.Tensor,
        kv_scales: torch.Tensor | None = None,
    ) -> None:
        launch(
            write_kernel,
            (len(slots_T), triton.cdiv(heads, block_h)),
            *(k_TKD, None if latent else v_TKD, cache, slots_T, kv_scales),
            *(k_TKD.stride(0), k_TKD.stride(1)),
            *((0, 0) if latent else (v_TKD.stride(0), v_TKD.stride(1))),
            HEADS=heads,
            SIZE=size,
            BLOCK_H=block_h,
            BLOCK_D=block_d,
            FP8=request.kv_dtype == "fp8_e4m3",
            LATENT=latent,
            SCALES=request.kv_scales,
            options={"num_warps": between(1, block_h * block_d // 256, 4)},
        )

    return run
