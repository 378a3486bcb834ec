"""Routing and grouped experts, each one piece of work. Arithmetic is in fp32.

Legend: T tokens, C hidden, X experts, E experts a token, I intermediate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from inferplane.spec import ExpertsRequest, Packed, RoutingRequest, WeightSource
from inferplane.spec.quantized import as_quantized, dequantize

from .launch import common_board, launch, new, raw
from .ops import KINDS


def route(request: RoutingRequest) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    name, wide = "sim.moe.route", request.top_k + request.shared

    def run(
        logits_TX: torch.Tensor, bias_X: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        given = (logits_TX,) if bias_X is None else (logits_TX, bias_X)
        board = common_board(name, *given)
        shape = (logits_TX.shape[0], wide)
        weights = new(board, name, shape, torch.float32)
        experts = new(board, name, shape, torch.int32)
        inputs, out = [raw(tensor) for tensor in given], (weights.raw, experts.raw)
        launch(board, name, lambda: _choose(request, out, *inputs), given, (weights, experts))
        return weights, experts

    return run


def _choose(
    request: RoutingRequest,
    out: tuple[torch.Tensor, torch.Tensor],
    logits: torch.Tensor,
    bias: torch.Tensor | None = None,
) -> None:
    """On the host tensors, when the work runs."""
    weights, experts = out
    top, rows = request.top_k, torch.arange(len(logits))[:, None]
    softmax = request.scoring == "softmax"
    scores = logits.float().softmax(-1) if softmax else logits.float().sigmoid()
    ranked = scores if bias is None else scores + bias.float()
    if request.groups:
        grouped = ranked.view(len(ranked), request.groups, -1)
        best = 1 if request.group_score == "max" else 2
        worth = grouped.sort(-1, descending=True).values[..., :best].sum(-1)
        order = worth.sort(stable=True, dim=-1, descending=True).indices
        grouped = grouped.clone()
        grouped[rows, order[:, request.top_groups :]] = -torch.inf
        ranked = grouped.flatten(1)
    chosen = ranked.sort(stable=True, dim=-1, descending=True).indices[:, :top]
    share = scores[rows, chosen]
    if request.renormalize:
        share = share / (share.sum(-1, keepdim=True) + 1e-20)
    weights[:, :top], experts[:, :top] = share * request.scaling, chosen.int()
    weights[:, top:] = 1.0
    experts[:, top:] = torch.arange(request.experts, request.experts + request.shared).int()


class Experts:
    """Keeps the checkpoint's tensors, quantized or not."""

    def __init__(self, request: ExpertsRequest) -> None:
        self.request = request

    def prepare(self, source: WeightSource) -> Packed:
        tensors = {name: source.read(name) for name in source.names()}
        size = sum(tensor.nbytes for tensor in tensors.values())
        return Packed(data=tensors, final_bytes=size, tensors=tensors)

    def __call__(
        self,
        x_TC: torch.Tensor,
        weights_TE: torch.Tensor,
        experts_TE: torch.Tensor,
        packed: Packed,
    ) -> torch.Tensor:
        name = "sim.moe.experts"
        given = (x_TC, weights_TE, experts_TE, *packed.data.values())
        board = common_board(name, *given)
        y_TC = new(board, name, x_TC.shape, x_TC.dtype)
        to, x, weights, experts = y_TC.raw, raw(x_TC), raw(weights_TE), raw(experts_TE)
        held = {key: raw(tensor) for key, tensor in packed.data.items()}
        launch(board, name, lambda: to.copy_(self._sum(x, weights, experts, held)), given, (y_TC,))
        return y_TC

    def _sum(
        self, x: torch.Tensor, weights: torch.Tensor, experts: torch.Tensor, held: dict[str, Any]
    ) -> torch.Tensor:
        """Tokens sorted by expert, one product an expert: fp32 [T, C]."""
        order = experts.flatten().argsort(stable=True)
        counts = torch.bincount(experts.flatten() + 1, minlength=self.request.experts + 1)
        tokens = order.div(experts.shape[1], rounding_mode="floor")
        y, at = torch.zeros(x.shape), 0
        for expert, count in enumerate(counts.tolist(), -1):
            rows, picked, at = tokens[at : at + count], order[at : at + count], at + count
            if expert < 0 or not count:
                continue
            hidden = self._linear(x[rows].float(), held, "gate_up", expert)
            out = self._linear(self._gate(hidden), held, "down", expert)
            y.index_add_(0, rows, out * weights.flatten()[picked, None])
        return y

    def _gate(self, hidden: torch.Tensor) -> torch.Tensor:
        gate, up = hidden.chunk(2, dim=-1)
        limit = self.request.limit
        if limit:
            gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
        return KINDS[self.request.activation](gate) * up

    def _linear(
        self, x: torch.Tensor, held: dict[str, Any], name: str, expert: int
    ) -> torch.Tensor:
        scheme, start = self.request.scheme, f"{name}."
        own = {k.removeprefix(start): t[expert] for k, t in held.items() if k.startswith(start)}
        weight = dequantize(scheme, own) if scheme.quantized else own["weight"].float()
        bias = own["bias"].float() if self.request.bias else None
        return F.linear(as_quantized(scheme, x, own.get("input_scale")), weight, bias)
