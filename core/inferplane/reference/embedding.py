"""Rows of a table by token id."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from inferplane.spec import EmbeddingRequest, Packed, WeightSource


class Embedding:
    """A rank that holds a part of the vocabulary gives zeros for ids outside of it, so that the
    sum over the ranks is the whole table's row."""

    def __init__(self, request: EmbeddingRequest) -> None:
        self.scale = request.scale
        self.sharded = request.sharding == "vocabulary"

    def prepare(self, source: WeightSource) -> Packed:
        weight = source.read("weight")
        first = source.parts("weight")[0].offset[0] if self.sharded else 0
        return Packed(data=(weight, first), final_bytes=weight.nbytes, tensors={"weight": weight})

    def __call__(self, ids_T: torch.Tensor, packed: Packed) -> torch.Tensor:
        weight, first = packed.data
        if self.sharded:
            x_TC = self._own_rows(ids_T - first, weight)
        else:
            x_TC = F.embedding(ids_T, weight)
        return x_TC if self.scale == 1.0 else x_TC * self.scale

    def _own_rows(self, rows_T: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        own_T = (rows_T >= 0) & (rows_T < weight.shape[0])
        x_TC = F.embedding(rows_T.clamp(0, weight.shape[0] - 1), weight)
        return x_TC.masked_fill(~own_T[:, None], 0.0)
