"""Routing and grouped experts by the definition. Legend: T tokens, X experts, E experts a token,
C hidden, I intermediate."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from inferplane.spec import ExpertsRequest, Packed, RoutingRequest, WeightSource
from inferplane.spec.quantized import as_quantized, dequantize
from inferplane.spec.torch_types import index_dtype

from .activation import gate
from .wide import wide


def route(request: RoutingRequest) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """Scores, the best groups, the best experts in them, weights: one after the other."""
    r, index = request, index_dtype(request.device)

    def run(
        logits_TX: torch.Tensor, bias_X: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits_TX = wide(logits_TX)
        softmax = r.scoring == "softmax"
        scores_TX = logits_TX.softmax(-1) if softmax else logits_TX.sigmoid()
        choice_TX = scores_TX if bias_X is None else scores_TX + bias_X.to(scores_TX.dtype)
        if r.groups:
            choice_TX = choice_TX.masked_fill(~_in_best_groups(r, choice_TX), float("-inf"))
        experts_TE = _best(choice_TX, r.top_k).to(index)
        weights_TE = scores_TX.gather(1, experts_TE)
        if r.renormalize:
            weights_TE = weights_TE / (weights_TE.sum(-1, keepdim=True) + 1e-20)
        weights_TE = weights_TE * r.scaling
        if r.shared:
            every = torch.arange(r.experts, r.experts + r.shared, device=logits_TX.device)
            experts_TE = torch.cat([experts_TE, every.expand(len(logits_TX), -1)], dim=-1)
            weights_TE = F.pad(weights_TE, (0, r.shared), value=1.0)
        kind = weights_TE.dtype if weights_TE.dtype == torch.float64 else torch.float32
        return weights_TE.to(kind), experts_TE.to(torch.int32)

    return run


def _best(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Places of the largest; ties go to the lower one."""
    return scores.argsort(dim=-1, descending=True, stable=True)[:, :count]


def _in_best_groups(request: RoutingRequest, choice_TX: torch.Tensor) -> torch.Tensor:
    """bool [T, X]: whether an expert is in one of the token's best groups."""
    grouped = choice_TX.unflatten(-1, (request.groups, -1))
    if request.group_score == "max":
        score_TG = grouped.amax(-1)
    else:
        score_TG = grouped.topk(2, dim=-1).values.sum(-1)
    best = _best(score_TG, request.top_groups)
    groups = torch.arange(request.groups, device=choice_TX.device)
    chosen_TG = (best[:, :, None] == groups).any(1)
    return chosen_TG.repeat_interleave(grouped.shape[-1], dim=-1)


class Experts:
    """One expert after the other, in fp32 (fp64 where x is)."""

    def __init__(self, request: ExpertsRequest) -> None:
        self.request = request
        self.index = index_dtype(request.device)
        self.gate = gate(request.activation, request.limit)

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
        x = wide(x_TC)
        y_TC = torch.zeros_like(x)
        for expert in experts_TE.unique().tolist():
            if expert < 0:
                continue
            token, place = (experts_TE == expert).nonzero().to(self.index).unbind(1)
            hidden = self._linear(x[token], packed.data, "gate_up", expert)
            out = self._linear(self.gate(hidden), packed.data, "down", expert)
            y_TC.index_add_(0, token, out * weights_TE[token, place, None].to(out.dtype))
        return y_TC.to(x_TC.dtype)

    def _linear(
        self, x: torch.Tensor, tensors: dict[str, torch.Tensor], name: str, expert: int
    ) -> torch.Tensor:
        scheme = self.request.scheme
        own = {
            key.removeprefix(f"{name}."): tensor[expert]
            for key, tensor in tensors.items()
            if key.startswith(f"{name}.")
        }
        if scheme.quantized:
            weight = dequantize(scheme, own).to(x.dtype)
            x = as_quantized(scheme, x, own.get("input_scale")).to(x.dtype)
        else:
            weight = own["weight"].to(x.dtype)
        bias = own["bias"].to(x.dtype) if self.request.bias else None
        return F.linear(x, weight, bias)
