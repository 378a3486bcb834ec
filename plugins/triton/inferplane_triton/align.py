"""Sorts the (token, expert) pairs of a step by expert, in blocks that one tile of a product takes.

All on the device: what is launched follows from the number of tokens alone, so it can be captured.
Legend: T tokens, E experts a token, X experts, C chunks of pairs, M rows of a block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from .launch import launch, power_of_two

_CHUNK, _SOME, _ROWS = 256, 32, 16


@dataclass(slots=True)
class Blocks:
    """order: int32, pairs (token * E + place) by expert; each expert's begin at a multiple of M.
    experts, rows: int32 [count], the expert of a block (-1: none), and how many of its rows are
    there. count: as many as there may be."""

    order: torch.Tensor
    experts: torch.Tensor
    rows: torch.Tensor
    count: int
    size: int


@triton.jit(do_not_specialize=["pairs"])
def count_kernel(
    experts, counts, pairs, X: tl.constexpr, BLOCK_X: tl.constexpr, CHUNK: tl.constexpr
):
    """counts [C, BLOCK_X]: pairs of each expert in one chunk; one out of range is nobody's."""
    chunk = tl.program_id(0)
    at = chunk * CHUNK + tl.arange(0, CHUNK)
    expert = tl.load(experts + at, mask=at < pairs, other=-1)
    found = tl.histogram(expert, BLOCK_X, mask=(expert >= 0) & (expert < X))
    tl.store(counts + chunk * BLOCK_X + tl.arange(0, BLOCK_X), found)


@triton.jit(do_not_specialize=["pairs", "chunks", "blocks"])
def place_kernel(
    experts, counts, order, block_experts, block_rows, pairs, chunks, blocks,
    X: tl.constexpr, M: tl.constexpr, BLOCK_X: tl.constexpr, CHUNK: tl.constexpr,
    SOME: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """One program places the pairs of one chunk, and describes some of the blocks."""
    chunk = tl.program_id(0)
    x = tl.arange(0, BLOCK_X)
    total = tl.zeros((BLOCK_X,), tl.int32)
    before = tl.zeros((BLOCK_X,), tl.int32)
    for first in range(0, chunks, ROWS):
        row = first + tl.arange(0, ROWS)[:, None]
        found = tl.load(counts + row * BLOCK_X + x[None, :], mask=row < chunks, other=0)
        total += tl.sum(found, axis=0)
        before += tl.sum(tl.where(row < chunk, found, 0), axis=0)
    each = (total + M - 1) // M
    end = tl.cumsum(each, axis=0)
    start = (end - each) * M
    some = tl.arange(0, SOME)
    for first in range(chunk * SOME, blocks, chunks * SOME):
        block = first + some
        behind = end[None, :] <= block[:, None]
        expert = tl.sum(behind.to(tl.int32), axis=1)
        limit = tl.sum(tl.where(x[None, :] == expert[:, None], (start + total)[None, :], 0), axis=1)
        left = limit - block * M
        there = block < blocks
        tl.store(block_experts + block, tl.where(expert < X, expert, -1), mask=there)
        tl.store(block_rows + block, tl.minimum(tl.maximum(left, 0), M), mask=there)
    place = start + before
    for first in range(chunk * CHUNK, chunk * CHUNK + CHUNK, SOME):
        at = first + some
        expert = tl.load(experts + at, mask=at < pairs, other=-1)
        mine = x[None, :] == expert[:, None]
        same = expert[:, None] == tl.load(experts + at, mask=at < pairs, other=-1)[None, :]
        earlier = tl.sum((same & (some[None, :] < some[:, None])).to(tl.int32), axis=1)
        to = tl.sum(tl.where(mine, place[None, :], 0), axis=1) + earlier
        tl.store(order + to, at, mask=(expert >= 0) & (expert < X))
        place += tl.sum(mine.to(tl.int32), axis=0)


def blocks_of(pairs: int, experts: int, rows: int) -> int:
    """The most blocks there can be: full ones, and one of each expert that is not."""
    return pairs // rows + min(experts, pairs)


def align(experts_TE: torch.Tensor, experts: int, rows: int) -> Blocks:
    """experts_TE: int32, contiguous. rows: M."""
    pairs, device = experts_TE.numel(), experts_TE.device
    chunks, count = triton.cdiv(pairs, _CHUNK), blocks_of(pairs, experts, rows)
    block_x = power_of_two(experts)

    def integers(size: int) -> torch.Tensor:
        return torch.empty(size, dtype=torch.int32, device=device)

    made = Blocks(integers(count * rows), integers(count), integers(count), count, rows)
    counts = integers(chunks * block_x)
    launch(
        count_kernel,
        (chunks,),
        *(experts_TE, counts, pairs),
        X=experts,
        BLOCK_X=block_x,
        CHUNK=_CHUNK,
        options={"num_warps": 4},
    )
    launch(
        place_kernel,
        (chunks,),
        *(experts_TE, counts, made.order, made.experts, made.rows, pairs, chunks, count),
        X=experts,
        M=rows,
        BLOCK_X=block_x,
        CHUNK=_CHUNK,
        SOME=_SOME,
        ROWS=_ROWS,
        options={"num_warps": 4},
    )
    return made
