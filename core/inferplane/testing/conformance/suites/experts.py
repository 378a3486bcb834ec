"""op "moe.experts": grouped experts of every kind and scheme."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from inferplane.spec import Candidate, ExpertsRequest

from ..case import Case
from ..sample import Sample
from ..schemes import EXPERTS, SCHEMES, UNKNOWN
from ..suite import Base, Edges, EdgeSuite, Traps
from ..target import HOST, Target

if TYPE_CHECKING:
    from ..problem import Call, Problem

ACTIVATIONS = ("silu", "gelu", "gelu_tanh", "swigluoai")


@dataclass(frozen=True)
class Shape:
    """chosen: experts of each token: drawn, all tokens the same first one ("one"), two experts only
    ("two"), or a third of them on other ranks ("absent", -1, and of one token all)."""

    tokens: int = 9
    chosen: str = "drawn"


def edges(base: Base) -> Edges:
    gpt_oss = {"activation": "swigluoai", "limit": 7.0, "bias": True}
    found: Edges = {
        "one-token": ({}, Shape(1)),
        "many-tokens": ({}, Shape(130)),
        "one-expert": ({}, Shape(20, "one")),
        "unused-experts": ({}, Shape(12, "two")),
        "experts-of-others": ({}, Shape(12, "absent")),
        "one-token-of-others": ({"top_k": 1}, Shape(1, "absent")),
        "top-1": ({"top_k": 1}, Shape()),
        "every-expert": ({"top_k": base["experts"]}, Shape(5)),
        "bias": ({"bias": True}, Shape()),
        "limit": ({"limit": 0.4}, Shape()),
        "gpt-oss": (gpt_oss, Shape(17)),
        "odd-sizes": ({"hidden": 72, "intermediate": 40}, Shape(5)),
        "narrow": ({"intermediate": base["intermediate"] // 2}, Shape(5)),
    }
    for kind in ACTIVATIONS[1:]:
        found[kind] = ({"activation": kind}, Shape())
    for name in EXPERTS:
        found[name] = ({"scheme": SCHEMES[name]}, Shape())
        found[f"{name}-one-token"] = ({"scheme": SCHEMES[name]}, Shape(1))
    for name in ("int4-g32", "mxfp4-weights", "int8-token"):
        more = {"scheme": SCHEMES[name]} | gpt_oss
        found[f"{name}-gpt-oss"] = (more, Shape(33, "absent"))
        found[f"{name}-one-expert"] = ({"scheme": SCHEMES[name]}, Shape(40, "one"))
    return found


class Experts(EdgeSuite):
    op, area = "moe.experts", "moe"
    bases = (
        {"experts": 6, "top_k": 2, "hidden": 64, "intermediate": 64},
        {"experts": 6, "top_k": 2, "hidden": 128, "intermediate": 128},
        {"experts": 8, "top_k": 2, "hidden": 256, "intermediate": 256},
    )

    def request(self, target: Target, dtype: str, **fields: Any) -> ExpertsRequest:
        return ExpertsRequest(device=target.props, dtype=dtype, **fields)

    def edges(self, base: Base) -> Edges:
        return edges(base)

    def drawn(self, target: Target, candidate: Candidate, dtype: str, rng: random.Random) -> Sample:
        experts = rng.choice([1, 2, 5, 16])
        fields: dict[str, Any] = {
            "experts": experts,
            "top_k": min(experts, rng.choice([1, 2, 4])),
            "hidden": rng.choice([64, 128, 192]),
            "intermediate": rng.choice([32, 64, 160]),
            "activation": rng.choice(ACTIVATIONS),
            "limit": rng.choice([0.0, 0.0, 2.0]),
            "bias": rng.random() < 0.3,
        }
        if rng.random() < 0.5:
            fields["scheme"] = SCHEMES[rng.choice(EXPERTS)]
            fields |= {"hidden": 128, "intermediate": rng.choice([64, 128, 256])}
        shape = Shape(
            rng.choice([1, 2, rng.randint(1, 60)]), rng.choice(["drawn", "drawn", "absent", "one"])
        )
        return Sample("drawn", self.request(target, dtype, **fields), shape, shape.tokens)

    def traps(self, target: Target, candidate: Candidate, base: Base) -> Traps:
        first = target.floats[0]
        yield "dtype int8", self.request(target, "int8", **base)
        yield "an unknown activation", self.request(target, first, **base, activation="kit")
        yield "an unknown type of weights", self.request(target, first, **base, scheme=UNKNOWN)

    def problem(self, case: Case, target: Target, seed: int) -> Problem:
        from inferplane.reference.moe import Experts as Reference

        from ..numbers import Numbers
        from ..problem import Problem
        from ..weights import HostSource

        request, shape = case.request, case.shape
        assert isinstance(request, ExpertsRequest)
        draw = Numbers(seed)
        weights = _weights(request, draw)
        inputs = {
            "x_TC": draw.normal(shape.tokens, request.hidden, dtype=request.dtype),
            "weights_TE": _shares(shape.tokens, request.top_k, draw),
            "experts_TE": _chosen(request, shape, draw),
        }
        oracle = Reference(replace(request, dtype="fp64", device=HOST))
        packed = oracle.prepare(HostSource(weights))
        right = oracle(inputs["x_TC"].double(), inputs["weights_TE"], inputs["experts_TE"], packed)
        length = max(request.hidden, request.intermediate)
        return Problem(inputs, {"y_TC": right}, weights=weights, length=length)

    def start(self, case: Case, kernel: Any, problem: Problem, target: Target) -> Call:
        from ..problem import Call, place, views
        from ..weights import HostSource

        placed = place(problem, target)
        packed = kernel.prepare(HostSource(problem.weights, target))
        given = views(placed)

        def run() -> dict[str, Any]:
            return {"y_TC": kernel(*given.values(), packed)}

        return Call(placed, run, prepared=packed)

    def judge(self, case: Case, problem: Problem, seen: Any, result: Any) -> None:
        from ..checks import parity
        from ..tolerances import activation_step

        assert isinstance(case.request, ExpertsRequest)
        more = activation_step(case.request.scheme.activation)
        parity(self.op, self.dtype(case), problem, seen, result, more)


def _weights(request: ExpertsRequest, draw: Any) -> dict[str, Any]:
    from ..quantized import Sizes
    from ..quantized import draw as drawn

    r, found = request, dict[str, Any]()
    gate_up = Sizes((r.intermediate, r.intermediate), r.hidden, (r.experts,))
    down = Sizes((r.hidden,), r.intermediate, (r.experts,))
    for name, sizes in (("gate_up", gate_up), ("down", down)):
        if r.scheme.quantized:
            tensors = drawn(r.scheme, sizes, draw)
        else:
            shape = (r.experts, sizes.rows, sizes.inputs)
            tensors = {"weight": draw.weight(*shape, dtype=r.dtype)}
        if r.bias:
            tensors["bias"] = draw.normal(r.experts, sizes.rows, dtype=r.dtype, scale=0.5)
        found |= {f"{name}.{key}": tensor for key, tensor in tensors.items()}
    return found


def _shares(tokens: int, count: int, draw: Any) -> Any:
    """fp32 [T, E]: not of sum one, as some routers give."""
    return 0.2 + draw.normal(tokens, count, dtype="fp32").abs()


def _chosen(request: ExpertsRequest, shape: Shape, draw: Any) -> Any:
    """int32 [T, E]; no expert twice for a token."""
    import torch

    count = request.experts
    orders = [torch.randperm(count, generator=draw.torch) for _ in range(shape.tokens)]
    chosen = torch.stack(orders)[:, : request.top_k]
    if shape.chosen == "two":
        chosen = torch.stack([torch.arange(request.top_k) % count for _ in orders])
        chosen = torch.where(chosen > 0, count - 1, 0)[:, :2]
    if shape.chosen == "one":
        chosen = (torch.arange(request.top_k) + count // 2) % count
        chosen = chosen.expand(shape.tokens, -1)
    if shape.chosen == "absent":
        chosen = torch.where(draw.integers(0, 3, *chosen.shape) == 0, -1, chosen)
        chosen[-1] = -1
    return chosen.to(torch.int32).contiguous()
