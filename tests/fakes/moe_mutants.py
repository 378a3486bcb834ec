"""Routing and grouped experts with one mistake each, made of the reference's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from inferplane.reference.moe import Experts, route


def routed(**fields: Any) -> Callable[..., Any]:
    """For another request than was asked for."""
    return lambda request: route(replace(request, **fields))


def one_group_score(request: Any) -> Callable[..., Any]:
    other = {"max": "top2", "top2": "max"}[request.group_score]
    return route(replace(request, group_score=other))


def bias_in_weights(request: Any) -> Callable[..., Any]:
    """Weights are taken from the scores that the bias was added to."""
    right = route(replace(request, renormalize=False, scaling=1.0, shared=0))

    def run(logits_TX: torch.Tensor, bias_X: torch.Tensor | None = None) -> Any:
        if bias_X is None or request.shared:
            return route(request)(logits_TX, bias_X)
        weights_TE, experts_TE = right(logits_TX, bias_X)
        weights_TE = weights_TE + bias_X[experts_TE.long()]
        if request.renormalize:
            weights_TE = weights_TE / weights_TE.sum(-1, keepdim=True)
        return weights_TE * request.scaling, experts_TE

    return run


def higher_of_equals(request: Any) -> Callable[..., Any]:
    right = route(request)

    def run(logits_TX: torch.Tensor, bias_X: torch.Tensor | None = None) -> Any:
        flipped = None if bias_X is None else bias_X.flip(-1)
        weights_TE, experts_TE = right(logits_TX.flip(-1), flipped)
        mirrored = request.experts - 1 - experts_TE
        return weights_TE, torch.where(experts_TE < request.experts, mirrored, experts_TE)

    return run


def worst_first(request: Any) -> Callable[..., Any]:
    right = route(request)

    def run(*given: Any) -> Any:
        weights_TE, experts_TE = right(*given)
        top = request.top_k
        back = [*range(top - 1, -1, -1), *range(top, weights_TE.shape[1])]
        return weights_TE[:, back].contiguous(), experts_TE[:, back].contiguous()

    return run


def wide_indices(request: Any) -> Callable[..., Any]:
    right = route(request)

    def run(*given: Any) -> Any:
        weights_TE, experts_TE = right(*given)
        return weights_TE, experts_TE.long()

    return run


ROUTING: dict[str, tuple[Callable[..., Any], str]] = {
    "weights are not renormalized": (routed(renormalize=False), "parity"),
    "weights are renormalized unasked": (routed(renormalize=True), "parity"),
    "the bias does not move the choice": (
        lambda request: lambda logits, bias=None: route(request)(logits),
        "parity",
    ),
    "the bias is in the weights": (bias_in_weights, "parity"),
    "equal scores go to the higher expert": (higher_of_equals, "parity"),
    "groups are ignored": (routed(groups=0, top_groups=0), "parity"),
    "another score of groups": (one_group_score, "parity"),
    "the scaling is ignored": (routed(scaling=1.0), "parity"),
    "sigmoid is taken for softmax": (routed(scoring="softmax"), "parity"),
    "shared experts are left out": (routed(shared=0), "shape"),
    "the worst expert is first": (worst_first, "parity"),
    "experts are 64-bit numbers": (wide_indices, "shape"),
}


def with_experts(change: Callable[[Any, torch.Tensor], torch.Tensor]) -> type[Experts]:
    class Other(Experts):
        def __call__(self, x: Any, weights: Any, experts: Any, packed: Any) -> torch.Tensor:
            return super().__call__(x, weights, change(self.request, experts), packed)

    return Other


def with_weights(change: Callable[[torch.Tensor], torch.Tensor]) -> type[Experts]:
    class Other(Experts):
        def __call__(self, x: Any, weights: Any, experts: Any, packed: Any) -> torch.Tensor:
            return super().__call__(x, change(weights), experts, packed)

    return Other


def with_tensors(change: Callable[[dict[str, torch.Tensor]], None]) -> type[Experts]:
    class Other(Experts):
        def prepare(self, source: Any) -> Any:
            packed = super().prepare(source)
            change(packed.data)
            return packed

    return Other


def asked(**fields: Any) -> Callable[..., Any]:
    return lambda request: Experts(replace(request, **fields))


def scheme_asked(**fields: Any) -> Callable[..., Any]:
    def make(request: Any) -> Experts:
        if request.scheme.quantized:
            request = replace(request, scheme=replace(request.scheme, **fields))
        return Experts(request)

    return make


def up_first(tensors: dict[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        if name.startswith("gate_up.") and tensor.dim() > 1 and tensor.shape[1] > 1:
            tensors[name] = torch.cat(tensor.chunk(2, dim=1)[::-1], dim=1)


def without(name: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        if name in tensors:
            tensors[name] = torch.zeros_like(tensors[name])

    return change


def first_expert_s(name: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        if name in tensors:
            tensors[name] = tensors[name][:1].expand_as(tensors[name])

    return change


def swap_halves(tensors: dict[str, torch.Tensor]) -> None:
    for name in ("gate_up.weight", "down.weight"):
        if tensors[name].dtype == torch.uint8:
            tensors[name] = (tensors[name] >> 4) | (tensors[name] << 4)


class BiasOnce(Experts):
    """The bias of down is not weighted."""

    def __call__(self, x: Any, weights: Any, experts: Any, packed: Any) -> torch.Tensor:
        y = super().__call__(x, weights, experts, packed)
        if not self.request.bias:
            return y
        bias = packed.data["down.bias"][experts.clamp(min=0).long()]
        extra = (bias * (1 - weights[..., None]) * (experts >= 0)[..., None]).sum(1)
        return y + extra.to(y.dtype)


class WritesInput(Experts):
    def __call__(self, x: Any, weights: Any, experts: Any, packed: Any) -> torch.Tensor:
        return x.copy_(super().__call__(x, weights, experts, packed))


EXPERTS: dict[str, tuple[Callable[..., Any], str]] = {
    "the next expert": (
        with_experts(lambda r, e: torch.where(e < 0, e, (e + 1) % r.experts)),
        "parity",
    ),
    "an absent expert is the last": (with_experts(lambda r, e: e % r.experts), "parity"),
    "only the best expert": (
        with_experts(lambda r, e: torch.cat([e[:, :1], e[:, 1:] * 0 - 1], 1)),
        "parity",
    ),
    "experts have equal weights": (with_weights(torch.ones_like), "parity"),
    "weights are made to be of sum one": (
        with_weights(lambda w: w / w.sum(-1, keepdim=True)),
        "parity",
    ),
    "up is taken for gate": (with_tensors(up_first), "parity"),
    "no bias of gate and up": (with_tensors(without("gate_up.bias")), "parity"),
    "no bias of down": (with_tensors(without("down.bias")), "parity"),
    "the bias of down is not weighted": (BiasOnce, "parity"),
    "the first expert's scales are of all": (with_tensors(first_expert_s("down.scale")), "parity"),
    "the high half of a byte is first": (with_tensors(swap_halves), "parity"),
    "the limit is ignored": (asked(limit=0.0), "parity"),
    "silu for every activation": (asked(activation="silu"), "parity"),
    "inputs are not quantized": (scheme_asked(activation=""), "parity"),
    "the input is written": (WritesInput, "mutates"),
}
