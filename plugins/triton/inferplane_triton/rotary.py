"""Rotary position embedding (Su et al. 2021). The table holds any scaling.

Legend: T tokens, H query heads, K kv heads, D head size, R rotary size.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from inferplane.spec import RotaryRequest

from .launch import between, launch, power_of_two

State = tuple[torch.Tensor, torch.Tensor]


@triton.jit
def pair(i, HALF: tl.constexpr, INTERLEAVED: tl.constexpr):
    """Where the two elements of turn i lie in a head."""
    if INTERLEAVED:
        first = 2 * i
        second = first + 1
    else:
        first = i
        second = i + HALF
    return first, second


@triton.jit
def rotary_kernel(
    q, k, table, positions, q_t, q_h, k_t, k_h, H: tl.constexpr, K: tl.constexpr,
    HALF: tl.constexpr, INTERLEAVED: tl.constexpr, BLOCK_H: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """One program turns BLOCK_H heads of one token; heads from H on are keys."""
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)[:, None]
    i = tl.arange(0, BLOCK_R)[None, :]
    inside = i < HALF
    row = table + tl.load(positions + token).to(tl.int64) * (2 * HALF)
    cos = tl.load(row + i, mask=inside, other=1.0)
    sin = tl.load(row + HALF + i, mask=inside, other=0.0)
    first, second = pair(i, HALF, INTERLEAVED)
    is_q, is_k = inside & (head < H), inside & (head >= H) & (head < H + K)
    turn(q + token * q_t + head * q_h, first, second, cos, sin, is_q)
    turn(k + token * k_t + (head - H) * k_h, first, second, cos, sin, is_k)


@triton.jit
def turn(base, first, second, cos, sin, mask):
    a = tl.load(base + first, mask=mask, other=0.0)
    dtype = a.dtype
    a = a.to(tl.float32)
    b = tl.load(base + second, mask=mask, other=0.0).to(tl.float32)
    tl.store(base + first, (a * cos - b * sin).to(dtype), mask=mask)
    tl.store(base + second, (b * cos + a * sin).to(dtype), mask=mask)


class Rotary:
    """op "rotary", in place. The state is the table and the positions: nothing is computed."""

    def __init__(self, request: RotaryRequest) -> None:
        self.heads, self.kv_heads = request.heads, request.kv_heads
        self.rotary_dim = request.rotary_dim
        self.interleaved = request.style == "interleaved"

    def step(self, table: torch.Tensor, positions_T: torch.Tensor) -> State:
        return table, positions_T

    def __call__(self, q_THD: torch.Tensor, k_TKD: torch.Tensor, state: State) -> None:
        table, positions_T = state
        half = self.rotary_dim // 2
        block_r, heads = power_of_two(half), self.heads + self.kv_heads
        block_h = between(1, 1024 // block_r, power_of_two(heads))
        launch(
            rotary_kernel,
            (q_THD.shape[0], triton.cdiv(heads, block_h)),
            q_THD,
            k_TKD,
            table,
            positions_T,
            q_THD.stride(0),
            q_THD.stride(1),
            k_TKD.stride(0),
            k_TKD.stride(1),
            H=self.heads,
            K=self.kv_heads,
            HALF=half,
            INTERLEAVED=self.interleaved,
            BLOCK_H=block_h,
            BLOCK_R=block_r,
            options={"num_warps": between(1, block_h * block_r // 128, 4)},
        )
