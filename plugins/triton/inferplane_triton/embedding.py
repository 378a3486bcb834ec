"""Rows of a table by token id. Legend: T tokens, V vocabulary (of this rank), C hidden."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from inferplane.spec import EmbeddingRequest, Packed, WeightSource

from .launch import between, launch, power_of_two


@triton.jit
def embedding_kernel(
    ids, weight, y, first, rows, scale, SIZE: tl.constexpr, BLOCK: tl.constexpr,
    SHARDED: tl.constexpr, SCALED: tl.constexpr,
):  # fmt: skip
    """One program copies BLOCK elements of one row. SHARDED: ids outside of this rank's rows
    [first, first + rows) give zeros."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = column < SIZE
    at = tl.load(ids + token).to(tl.int64) - first
    own = mask
    if SHARDED:
        own = mask & (at >= 0) & (at < rows)
    value = tl.load(weight + at * SIZE + column, mask=own, other=0.0)
    if SCALED:
        value = (value.to(tl.float32) * scale).to(value.dtype)
    tl.store(y + token * SIZE + column, value, mask=mask)


class Embedding:
    """op "embedding": ids [T], int32 or int64 -> [T, C].

    A rank that holds a part of the vocabulary gives zeros for other ids, so that the sum over the
    ranks is the whole table's row.
    """

    def __init__(self, request: EmbeddingRequest) -> None:
        self.size, self.scale = request.size, request.scale
        self.sharded = request.sharding == "vocabulary"
        self.block = between(64, power_of_two(request.size), 2048)

    def prepare(self, source: WeightSource) -> Packed:
        weight = source.read("weight")
        first = source.parts("weight")[0].offset[0] if self.sharded else 0
        return Packed(data=(weight, first), final_bytes=weight.nbytes, tensors={"weight": weight})

    def __call__(self, ids_T: torch.Tensor, packed: Packed) -> torch.Tensor:
        weight, first = packed.data
        y_TC = torch.empty((len(ids_T), self.size), dtype=weight.dtype, device=weight.device)
        launch(
            embedding_kernel,
            (len(ids_T), triton.cdiv(self.size, self.block)),
            ids_T,
            weight,
            y_TC,
            first,
            weight.shape[0],
            self.scale,
            SIZE=self.size,
            BLOCK=self.block,
            SHARDED=self.sharded,
            SCALED=self.scale != 1.0,
            options={"num_warps": between(1, self.block // 256, 8)},
        )
        return y_TC
