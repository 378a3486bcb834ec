"""Grouped experts out of torch's calls: for machines without compiled kernels, and for what those
do not take.

Legend: T tokens, X experts, E experts a token, C hidden, I intermediate.
"""

from __future__ import annotations

from typing import Any

import torch

from inferplane.spec import ExpertsRequest, Packed, WeightSource
from inferplane.spec.quantized import as_quantized, dequantize
from inferplane.spec.torch_types import torch_dtype

from .ops import gate


class PackedExperts:
    """One product an expert and projection, with oneDNN's packed weights; any scheme, dequantized
    once. What lies between the projections is fp32; where inputs are quantized all is, since a
    rounding before another could end at the wrong code."""

    def __init__(self, request: ExpertsRequest) -> None:
        self.request = request
        self.dtype = torch.float32 if request.scheme.activation else torch_dtype(request.dtype)
        self.gate = gate(request.activation, request.limit, request.intermediate)
        self.run: Any = torch.ops.mkldnn._linear_pointwise.default

    def prepare(self, source: WeightSource) -> Packed:
        """data: of each projection (packed weights, biases, input scales), one an expert."""
        made, size, peak = [], 0, 0
        for name in ("gate_up", "down"):
            own = [n for n in source.names() if n.startswith(f"{name}.")]
            tensors = {n.removeprefix(f"{name}."): source.read(n) for n in own}
            held = sum(tensor.nbytes for tensor in tensors.values())
            weights = []
            for expert in range(self.request.experts):
                weight = self._weight({key: tensor[expert] for key, tensor in tensors.items()})
                weights.append(torch.ops.mkldnn._reorder_linear_weight(weight))
                size += weight.nbytes
            peak = max(peak, held + size)
            rest = [tensors.get(key) for key in ("bias", "input_scale")]
            size += sum(tensor.nbytes for tensor in rest if tensor is not None)
            made.append((weights, *rest))
            del tensors
        return Packed(data=tuple(made), final_bytes=size, peak_bytes=peak)

    def _weight(self, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        scheme = self.request.scheme
        if scheme.quantized:
            return dequantize(scheme, tensors).to(self.dtype)
        return tensors["weight"].contiguous()

    def __call__(
        self,
        x_TC: torch.Tensor,
        weights_TE: torch.Tensor,
        experts_TE: torch.Tensor,
        packed: Packed,
    ) -> torch.Tensor:
        y_TC = torch.zeros(x_TC.shape, dtype=torch.float32)
        chosen = experts_TE.flatten()
        order = chosen.argsort(stable=True)
        counts = torch.bincount(chosen + 1, minlength=self.request.experts + 1).tolist()
        first = counts[0]  # behind the pairs of other ranks' experts
        for expert, count in enumerate(counts[1 : self.request.experts + 1]):
            if not count:
                continue
            pairs = order[first : first + count]
            first += count
            tokens = pairs // experts_TE.shape[1]
            hidden = self.gate(self._linear(x_TC[tokens], expert, packed.data[0]).float())
            out = self._linear(hidden, expert, packed.data[1]).float()
            y_TC.index_add_(0, tokens, out * weights_TE.flatten()[pairs, None])
        return y_TC.to(x_TC.dtype)

    def _linear(self, x: torch.Tensor, expert: int, projection: tuple[Any, ...]) -> torch.Tensor:
        weights, bias, input_scale = projection
        if self.request.scheme.activation:
            own = None if input_scale is None else input_scale[expert]
            x = as_quantized(self.request.scheme, x, own)
        own_bias = None if bias is None else bias[expert].to(self.dtype)
        return self.run(x.to(self.dtype), weights[expert], own_bias, "none", [], "")
