"""Routing and fused experts of AITER.

Sources, of ROCm/aiter at e404860: aiter/ops/moe_op.py; aiter/ops/topk.py, where
`biased_grouped_topk` forgets the scaling in its other branch, for tens of thousands of tokens, so
that its first is called; aiter/fused_moe.py, whose weights are shuffled, gates before ups, and
whose scales are [X, rows, 1], or one a block of 128x128.

Legend: T tokens, X experts, E experts a token, C hidden, I intermediate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from inferplane.spec import ExpertsRequest, Packed, RoutingRequest, WeightSource
from inferplane.spec.quantized import to_fnuz

from .libraries import load_aiter

_Routed = tuple[torch.Tensor, torch.Tensor]


def _results(logits_TX: torch.Tensor, each: int) -> _Routed:
    """Of shape [T, E]: weights, experts."""
    make, shape = logits_TX.new_empty, (len(logits_TX), each)
    return make(shape, dtype=torch.float32), make(shape, dtype=torch.int32)


def topk_softmax(request: RoutingRequest) -> Callable[..., _Routed]:
    library: Any = load_aiter()

    def run(logits_TX: torch.Tensor, bias_X: torch.Tensor | None = None) -> _Routed:
        weights, experts = _results(logits_TX, request.top_k)
        scratch = torch.empty_like(experts)
        library.topk_softmax(weights, experts, scratch, logits_TX.float(), request.renormalize)
        return weights, experts

    return run


def biased_topk(request: RoutingRequest) -> Callable[..., _Routed]:
    library: Any = load_aiter()
    groups = request.groups or 1, request.top_groups or 1, request.renormalize

    def run(logits_TX: torch.Tensor, bias_X: torch.Tensor) -> _Routed:
        weights, experts = _results(logits_TX, request.top_k)
        library.biased_grouped_topk_hip(
            logits_TX.float(), bias_X.float(), weights, experts, *groups, request.scaling
        )
        return weights, experts

    return run


class AiterExperts:
    """Experts of other ranks (-1) become one more expert, which the library's mask leaves out; it
    wants that one as the last of every token, too."""

    def __init__(self, request: ExpertsRequest) -> None:
        library: Any = load_aiter()
        from aiter.fused_moe import fused_moe

        self.request, self.fused = request, fused_moe
        known, scheme = {"channel": "per_Token", "block": "per_128x128"}, request.scheme
        kind = known[scheme.granularity] if scheme.quantized else "No"
        self.quantization = getattr(library.QuantType, kind)
        self.activation = library.ActivationType.Silu
        self.fnuz = request.device.detail("fp8") == "fp8_e4m3fnuz"

    def prepare(self, source: WeightSource) -> Packed:
        from aiter.ops.shuffle import shuffle_weight

        data, scheme = [], self.request.scheme
        for name in ("gate_up", "down"):
            weight, scale = source.read(f"{name}.weight"), None
            if scheme.quantized:
                scale = source.read(f"{name}.scale").float()
                if scheme.granularity == "channel":
                    scale = scale.reshape(*weight.shape[:2], 1)
                if self.fnuz:
                    weight, scale = to_fnuz(weight, scale)
            data += [shuffle_weight(weight, layout=(16, 16)), scale]
        mask = torch.ones(self.request.experts + 1, dtype=torch.int32, device=source.device)
        mask[-1] = 0
        held = [tensor for tensor in (*data, mask) if tensor is not None]
        size = sum(tensor.nbytes for tensor in held)
        return Packed(data=(*data, mask), final_bytes=size, peak_bytes=data[0].nbytes)

    def __call__(
        self,
        x_TC: torch.Tensor,
        weights_TE: torch.Tensor,
        experts_TE: torch.Tensor,
        packed: Packed,
    ) -> torch.Tensor:
        gate_up, gate_up_scale, down, down_scale, mask = packed.data
        none = self.request.experts
        y_TC: torch.Tensor = self.fused(
            x_TC,
            gate_up,
            down,
            F.pad(weights_TE, (0, 1)),
            F.pad(experts_TE.masked_fill(experts_TE < 0, none), (0, 1), value=none),
            expert_mask=mask,
            activation=self.activation,
            quant_type=self.quantization,
            w1_scale=gate_up_scale,
            w2_scale=down_scale,
        )
        return y_TC
