"""Rows of a table by token id."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from inferplane.spec import EmbeddingRequest, Packed, WeightSource


class Embedding:
    def __init__(self, request: EmbeddingRequest) -> None:
        self.scale = request.scale

    def prepare(self, source: WeightSource) -> Packed:
        weight = source.read("weight")
        return Packed(data=weight, final_bytes=weight.nbytes, tensors={"weight": weight})

    def __call__(self, ids_T: torch.Tensor, packed: Packed) -> torch.Tensor:
        x_TC = F.embedding(ids_T, packed.data)
        return x_TC if self.scale == 1.0 else x_TC * self.scale
