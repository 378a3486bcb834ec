"""op "linear.heads": a matrix a head."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inferplane.spec import Candidate, HeadsLinearRequest

from ..case import Case
from ..sample import Sample
from ..suite import Base, Edges, EdgeSuite, Traps
from ..target import Target

if TYPE_CHECKING:
    from ..problem import Call, Problem


@dataclass(frozen=True)
class Shape:
    """strided: the input is the first part of longer vectors, whose rest is NaN."""

    tokens: int = 5
    strided: bool = False


EDGES: Edges = {
    "one-token": ({}, Shape(1)),
    "many-tokens": ({}, Shape(130)),
    "one-head": ({"heads": 1}, Shape()),
    "odd-sizes": ({"heads": 3, "inputs": 33, "outputs": 7}, Shape(3)),
    "one-output": ({"outputs": 1}, Shape()),
    "wider": ({"inputs": 32, "outputs": 128}, Shape()),
    "long-sum": ({"heads": 2, "inputs": 4096}, Shape(3)),
    "strided": ({}, Shape(5, strided=True)),
    "strided-one-token": ({}, Shape(1, strided=True)),
}


class Heads(EdgeSuite):
    op, area = "linear.heads", "linear"
    bases = (
        {"heads": 4, "inputs": 64, "outputs": 48},
        {"heads": 16, "inputs": 128, "outputs": 128},
    )

    def request(self, target: Target, dtype: str, **fields: Any) -> HeadsLinearRequest:
        return HeadsLinearRequest(device=target.props, dtype=dtype, **fields)

    def edges(self, base: Base) -> Edges:
        return EDGES

    def drawn(self, target: Target, candidate: Candidate, dtype: str, rng: random.Random) -> Sample:
        sizes = [16, 64, 128, 512, rng.randint(1, 200)]
        fields = {"inputs": rng.choice(sizes), "outputs": rng.choice(sizes)}
        request = self.request(target, dtype, heads=rng.choice([1, 2, 5, 16]), **fields)
        shape = Shape(rng.choice([1, 2, rng.randint(1, 70)]), rng.random() < 0.4)
        return Sample("drawn", request, shape, shape.tokens)

    def traps(self, target: Target, candidate: Candidate, base: Base) -> Traps:
        yield "dtype int8", self.request(target, "int8", **base)

    def problem(self, case: Case, target: Target, seed: int) -> Problem:
        import torch

        from ..numbers import Numbers
        from ..problem import Problem

        request, shape = case.request, case.shape
        assert isinstance(request, HeadsLinearRequest)
        draw = Numbers(seed)
        size = (shape.tokens, request.heads, request.inputs)
        x = draw.normal(*size, dtype=request.dtype)
        weight = draw.weight(request.heads, request.outputs, request.inputs, dtype=request.dtype)
        right = torch.einsum("thc,hnc->thn", x.double(), weight.double())
        if shape.strided:
            rest = torch.full((*size[:2], 24), float("nan"), dtype=x.dtype)
            x = torch.cat([x, rest], dim=-1)
        return Problem(
            {"x_THC": x}, {"y_THN": right}, weights={"weight": weight}, length=request.inputs
        )

    def start(self, case: Case, kernel: Any, problem: Problem, target: Target) -> Call:
        from ..problem import Call, place, views
        from ..weights import HostSource

        assert isinstance(case.request, HeadsLinearRequest)
        placed = place(problem, target)
        packed = kernel.prepare(HostSource(problem.weights, target))
        x_THC = views(placed)["x_THC"][..., : case.request.inputs]
        return Call(placed, lambda: {"y_THN": kernel(x_THC, packed)}, prepared=packed)
