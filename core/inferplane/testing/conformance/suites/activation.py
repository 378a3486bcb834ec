"""op "activation.gated"."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from inferplane.spec import ActivationRequest, Candidate

from ..case import Case
from ..sample import Sample
from ..suite import Base, Suite, Traps
from ..target import HOST, Target

if TYPE_CHECKING:
    from ..problem import Call, Problem

KINDS = ("silu", "gelu", "gelu_tanh")


@dataclass(frozen=True)
class Shape:
    """scale: of the input's values."""

    tokens: int = 5
    scale: float = 1.0


EDGES: dict[str, tuple[dict[str, Any], Shape]] = {
    "one-token": ({}, Shape(1)),
    "odd-size": ({"size": 37}, Shape(7)),
    "one-element": ({"size": 1}, Shape(3)),
    "wide": ({"size": 2816}, Shape(3)),
    "many-tokens": ({}, Shape(200)),
    "large-values": ({}, Shape(5, 30.0)),
}


class Gated(Suite):
    op, area = "activation.gated", "ops"
    bases = ({"size": 64}, {"size": 128}, {"size": 1024}, {"size": 4096})

    def request(self, target: Target, dtype: str, **fields: Any) -> ActivationRequest:
        return ActivationRequest(device=target.props, dtype=dtype, **fields)

    def samples(
        self, target: Target, candidate: Candidate, dtype: str, base: Base
    ) -> Iterator[Sample]:
        for kind in KINDS:
            for name, (fields, shape) in EDGES.items():
                request = self.request(target, dtype, **(base | fields), kind=kind)
                yield Sample(f"{kind}-{name}", request, shape, shape.tokens)
            request = self.request(target, dtype, **base, kind=kind, limit=2.0)
            yield Sample(f"{kind}-limit", request, Shape(5, 3.0), 5)

    def drawn(self, target: Target, candidate: Candidate, dtype: str, rng: random.Random) -> Sample:
        request = self.request(
            target,
            dtype,
            size=rng.choice([32, 128, 704, rng.randint(1, 1200)]),
            kind=rng.choice(KINDS),
            limit=rng.choice([0.0, 0.0, 7.0]),
        )
        shape = Shape(rng.choice([1, rng.randint(1, 70)]), rng.choice([1.0, 5.0]))
        return Sample("drawn", request, shape, shape.tokens)

    def traps(self, target: Target, candidate: Candidate, base: Base) -> Traps:
        yield "dtype int8", self.request(target, "int8", **base)
        yield "another function", self.request(target, target.floats[0], **base, kind="kit")

    def problem(self, case: Case, target: Target, seed: int) -> Problem:
        from inferplane.reference.activation import gated

        from ..numbers import Numbers
        from ..problem import Problem

        request, shape = case.request, case.shape
        assert isinstance(request, ActivationRequest)
        x = Numbers(seed).normal(
            shape.tokens, 2 * request.size, dtype=request.dtype, scale=shape.scale
        )
        right = gated(replace(request, dtype="fp64", device=HOST))(x.double())
        return Problem({"gate_up_T2N": x}, {"y_TN": right})

    def start(self, case: Case, kernel: Any, problem: Problem, target: Target) -> Call:
        from ..problem import Call, place, views

        placed = place(problem, target)
        given = views(placed)
        return Call(placed, lambda: {"y_TN": kernel(given["gate_up_T2N"])})
