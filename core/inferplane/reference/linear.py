"""Linear layers: unquantized, and of every scheme by dequantizing at each call."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from inferplane.spec import LinearRequest, Packed, WeightSource
from inferplane.spec.quantized import as_quantized, dequantize

from .wide import wide


class Linear:
    """Keeps the weight as the checkpoint has it; a tied weight is shared, not copied."""

    def __init__(self, request: LinearRequest) -> None:
        self.request = request

    def prepare(self, source: WeightSource) -> Packed:
        if self.request.scheme.quantized:
            return self._keep(source)
        weight = source.read("weight")
        bias = source.read("bias") if self.request.bias else None
        tensors = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
        owned = [t for name, t in tensors.items() if not (source.tied_to and name == "weight")]
        return Packed(
            data=(weight, bias), final_bytes=sum(t.nbytes for t in owned), tensors=tensors
        )

    def _keep(self, source: WeightSource) -> Packed:
        """The quantized tensors as they are, and the rows of each part."""
        tensors = {name: source.read(name) for name in source.names()}
        parts = tuple(part.shape[0] for part in source.parts("weight"))
        size = sum(tensor.nbytes for tensor in tensors.values())
        return Packed(data=(tensors, parts), final_bytes=size, tensors=tensors)

    def __call__(self, x_TC: torch.Tensor, packed: Packed) -> torch.Tensor:
        scheme = self.request.scheme
        if not scheme.quantized:
            return F.linear(x_TC, *packed.data)
        tensors, parts = packed.data
        x = wide(x_TC)
        weight = dequantize(scheme, tensors, parts).to(x.dtype)
        x = as_quantized(scheme, x, tensors.get("input_scale")).to(x.dtype)
        bias = tensors["bias"].to(x.dtype) if self.request.bias else None
        return F.linear(x, weight, bias).to(x_TC.dtype)
