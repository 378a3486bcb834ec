"""Block "attention.input": q/k norm, rotary embedding and KV write in one pass over q, k and v.

Legend: T tokens, H query heads, K kv heads, D head size, R rotary size, X = (H + 2K) * D.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from inferplane.spec import AttentionInputRequest, Packed, WeightSource

from .launch import between, launch, power_of_two
from .rotary import State, pair
from .write import to_cache


@triton.jit
def load_part(base, at, mask):
    return tl.load(base + at, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def scaled(x, rstd, weight, row, at, mask, offset, is_v, OFFSET: tl.constexpr, DTYPE: tl.constexpr):
    """x / rms * weight for queries and keys, x for values."""
    w = tl.load(weight + row + at, mask=mask, other=0.0).to(tl.float32)
    y = x * rstd
    if OFFSET:
        y = y * (w + offset)
    else:
        y = y.to(DTYPE).to(tl.float32) * w
    return tl.where(is_v, x, y.to(DTYPE).to(tl.float32))


@triton.jit
def put(x, base, place, at, in_qkv, in_cache, cache, DTYPE: tl.constexpr, FP8: tl.constexpr):
    tl.store(base + at, x.to(DTYPE), mask=in_qkv)
    rounded = x.to(DTYPE).to(tl.float32)
    tl.store(place + at, to_cache(rounded, cache, FP8), mask=in_cache)


@triton.jit
def input_kernel(
    qkv, cache, slots, table, positions, weight, qkv_t, eps, offset,
    H: tl.constexpr, K: tl.constexpr, SIZE: tl.constexpr, HALF: tl.constexpr,
    INTERLEAVED: tl.constexpr, NORM: tl.constexpr, OFFSET: tl.constexpr, FP8: tl.constexpr,
    BLOCK_H: tl.constexpr, BLOCK_R: tl.constexpr, REST: tl.constexpr, BLOCK_REST: tl.constexpr,
):  # fmt: skip
    """One program takes BLOCK_H heads of one token: H queries, then K keys, then K values.

    A head is read as the two halves that turn into each other, and the REST behind them. Queries
    and keys go back to their places, keys and values to the token's slot; a slot of -1 is padding.
    weight [2, D]: of the queries' norm and of the keys'.
    """
    DTYPE: tl.constexpr = qkv.dtype.element_ty
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + token).to(tl.int64)
    head = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)[:, None]
    i = tl.arange(0, BLOCK_R)[None, :]
    exists, is_v = head < H + 2 * K, head >= H + K
    inside = exists & (i < HALF)
    base = qkv + token * qkv_t + head * SIZE
    # head - H counts keys, then values, as a slot does
    place = cache + slot * (2 * K * SIZE) + (head - H) * SIZE
    in_cache = (head >= H) & (slot >= 0)
    first, second = pair(i, HALF, INTERLEAVED)
    a = load_part(base, first, inside)
    b = load_part(base, second, inside)
    if REST > 0:
        j = tl.arange(0, BLOCK_REST)[None, :]
        behind = exists & (j < REST)
        c = load_part(base, 2 * HALF + j, behind)
    if NORM:
        squares = tl.sum(a * a + b * b, axis=1)
        if REST > 0:
            squares += tl.sum(c * c, axis=1)
        rstd = tl.rsqrt(squares / SIZE + eps)[:, None]
        row = tl.where(head >= H, SIZE, 0)
        a = scaled(a, rstd, weight, row, first, inside, offset, is_v, OFFSET, DTYPE)
        b = scaled(b, rstd, weight, row, second, inside, offset, is_v, OFFSET, DTYPE)
        if REST > 0:
            c = scaled(c, rstd, weight, row, 2 * HALF + j, behind, offset, is_v, OFFSET, DTYPE)
    angles = table + tl.load(positions + token).to(tl.int64) * (2 * HALF)
    turns = (i < HALF) & (head < H + K)
    cos = tl.load(angles + i, mask=turns, other=1.0)
    sin = tl.load(angles + HALF + i, mask=turns, other=0.0)
    turned = a * cos - b * sin
    b = b * cos + a * sin
    put(turned, base, place, first, inside & (head < H + K), inside & in_cache, cache, DTYPE, FP8)
    put(b, base, place, second, inside & (head < H + K), inside & in_cache, cache, DTYPE, FP8)
    if REST > 0:
        at = 2 * HALF + j
        put(c, base, place, at, behind & (head < H + K), behind & in_cache, cache, DTYPE, FP8)


class AttentionInput:
    """op "attention.input": qkv [T, X] -> views q [T, H, D], k and v [T, K, D] of it, which is
    written. The cache has the standard layout."""

    def __init__(self, request: AttentionInputRequest) -> None:
        rotary = request.rotary
        self.heads, self.kv_heads, self.head_dim = rotary.heads, rotary.kv_heads, rotary.head_dim
        self.rotary_dim, self.norm = rotary.rotary_dim, request.qk_norm
        rest = self.head_dim - self.rotary_dim
        block_r = power_of_two(self.rotary_dim // 2)
        every = self.heads + 2 * self.kv_heads
        widest = max(block_r, power_of_two(rest))
        self.block_h = between(1, 512 // widest, power_of_two(every))
        self.constants = {
            "H": self.heads,
            "K": self.kv_heads,
            "SIZE": self.head_dim,
            "HALF": self.rotary_dim // 2,
            "INTERLEAVED": rotary.style == "interleaved",
            "NORM": self.norm is not None,
            "OFFSET": self.norm is not None and self.norm.weight_offset != 0.0,
            "FP8": request.write.kv_dtype == "fp8_e4m3",
            "BLOCK_H": self.block_h,
            "BLOCK_R": block_r,
            "REST": rest,
            "BLOCK_REST": power_of_two(rest),
        }
        self.options = {"num_warps": between(1, self.block_h * widest // 128, 4)}

    def prepare(self, source: WeightSource) -> Packed:
        if self.norm is None:
            return Packed(data=None, final_bytes=0)
        both = [source.child(name).read("weight") for name in ("q_norm", "k_norm")]
        weight_2D = torch.stack(both).contiguous()
        return Packed(data=weight_2D, final_bytes=weight_2D.nbytes, tensors={"weight": weight_2D})

    def step(self, table: torch.Tensor, positions_T: torch.Tensor) -> State:
        return table, positions_T

    def __call__(
        self,
        qkv_TX: torch.Tensor,
        cache: torch.Tensor,
        slots_T: torch.Tensor,
        state: State,
        packed: Packed,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        table, positions_T = state
        tokens, heads, kv_heads = qkv_TX.shape[0], self.heads, self.kv_heads
        launch(
            input_kernel,
            (tokens, triton.cdiv(heads + 2 * kv_heads, self.block_h)),
            qkv_TX,
            cache,
            slots_T,
            table,
            positions_T,
            packed.data,
            qkv_TX.stride(0),
            self.norm.eps if self.norm else 0.0,
            self.norm.weight_offset if self.norm else 0.0,
            **self.constants,
            options=self.options,
        )
        x_TAD = qkv_TX.view(tokens, heads + 2 * kv_heads, self.head_dim)
        q_THD, k_TKD, v_TKD = x_TAD.split((heads, kv_heads, kv_heads), dim=1)
        return q_THD, k_TKD, v_TKD
