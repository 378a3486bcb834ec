"""Unquantized linear layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from inferplane.spec import LinearRequest, Packed, WeightSource


class Linear:
    """Keeps the weight as the checkpoint has it; a tied weight is shared, not copied."""

    def __init__(self, request: LinearRequest) -> None:
        self.request = request

    def prepare(self, source: WeightSource) -> Packed:
        weight = source.read("weight")
        bias = source.read("bias") if self.request.bias else None
        tensors = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
        owned = [t for name, t in tensors.items() if not (source.tied_to and name == "weight")]
        return Packed(
            data=(weight, bias), final_bytes=sum(t.nbytes for t in owned), tensors=tensors
        )

    def __call__(self, x_TC: torch.Tensor, packed: Packed) -> torch.Tensor:
        return F.linear(x_TC, *packed.data)
