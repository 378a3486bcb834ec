"""op "linear", not quantized: the contract does not say yet how quantized tensors are laid out."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inferplane.spec import Candidate, LinearRequest, QuantScheme

from ..case import Case, Result
from ..sample import Sample
from ..suite import Base, Suite, Traps
from ..target import Target

if TYPE_CHECKING:
    from ..problem import Call, Observed, Problem


@dataclass(frozen=True)
class Shape:
    """tied: the weight belongs to another site too."""

    tokens: int = 5
    tied: bool = False


def edges(base: Base) -> dict[str, tuple[dict[str, Any], Shape]]:
    """n: a size that the kernel has; parts are made of quarters of it."""
    n = base["parts"][0]
    return {
        "one-token": ({}, Shape(1)),
        "bias": ({"bias": True}, Shape()),
        "odd-sizes": ({"in_features": 33, "parts": (7,)}, Shape(3)),
        "one-output": ({"parts": (1,)}, Shape(4)),
        "one-input": ({"in_features": 1}, Shape(4)),
        "parts": ({"parts": (n, n // 4, n // 4)}, Shape()),
        "parts-bias": ({"parts": (n, n // 4, n // 2), "bias": True}, Shape()),
        "many-tokens": ({"parts": (2 * n,)}, Shape(130)),
        "long-sum": ({"in_features": 8192}, Shape(3)),
        "tied": ({"parts": (2 * n,)}, Shape(2, tied=True)),
        "column-sharded": ({"parts": (2 * n, n), "sharding": "column", "shards": 2}, Shape()),
        "row-sharded": (
            {"in_features": 2 * base["in_features"], "sharding": "row", "shards": 2},
            Shape(),
        ),
    }


_UNKNOWN = QuantScheme(name="kit", weight="int4", granularity="group", group=24)


class Linear(Suite):
    op, area = "linear", "linear"
    bases = (
        {"in_features": 64, "parts": (48,)},
        {"in_features": 128, "parts": (128,)},
        {"in_features": 1024, "parts": (1024,)},
    )

    def request(self, target: Target, dtype: str, **fields: Any) -> LinearRequest:
        return LinearRequest(
            device=target.props, dtype=dtype, out_features=sum(fields["parts"]), **fields
        )

    def samples(
        self, target: Target, candidate: Candidate, dtype: str, base: Base
    ) -> Iterator[Sample]:
        for name, (fields, shape) in edges(base).items():
            yield Sample(name, self.request(target, dtype, **(base | fields)), shape, shape.tokens)

    def drawn(self, target: Target, candidate: Candidate, dtype: str, rng: random.Random) -> Sample:
        sizes = [16, 64, 128, 576, rng.randint(1, 300)]
        parts = tuple(rng.choice(sizes) for _ in range(rng.choice([1, 1, 2, 3])))
        request = self.request(
            target, dtype, in_features=rng.choice(sizes), parts=parts, bias=rng.random() < 0.4
        )
        shape = Shape(rng.choice([1, 2, rng.randint(1, 70)]), rng.random() < 0.2)
        return Sample("drawn", request, shape, shape.tokens)

    def traps(self, target: Target, candidate: Candidate, base: Base) -> Traps:
        first = target.floats[0]
        yield "dtype int8", self.request(target, "int8", **base)
        yield "an unknown scheme", self.request(target, first, **base, scheme=_UNKNOWN)

    def local(self, request: LinearRequest) -> tuple[int, tuple[int, ...]]:
        """Inputs and rows of each part, of this rank."""
        column = request.shards if request.sharding == "column" else 1
        row = request.shards if request.sharding == "row" else 1
        return request.in_features // row, tuple(p // column for p in request.parts)

    def problem(self, case: Case, target: Target, seed: int) -> Problem:
        from ..numbers import Numbers
        from ..problem import Problem

        request, shape = case.request, case.shape
        assert isinstance(request, LinearRequest)
        draw = Numbers(seed)
        inputs, parts = self.local(request)
        x = draw.normal(shape.tokens, inputs, dtype=request.dtype)
        weights = {"weight": draw.weight(sum(parts), inputs, dtype=request.dtype)}
        right = x.double() @ weights["weight"].double().T
        if request.bias:
            weights["bias"] = draw.normal(sum(parts), dtype=request.dtype)
            right = right + weights["bias"].double()
        return Problem({"x_TC": x}, {"y_TN": right}, weights=weights, length=inputs)

    def start(self, case: Case, kernel: Any, problem: Problem, target: Target) -> Call:
        from ..problem import Call, place, views
        from ..weights import HostSource

        placed = place(problem, target)
        request = case.request
        assert isinstance(request, LinearRequest)
        source = HostSource(problem.weights, target, self.local(request)[1], tied=case.shape.tied)
        packed = kernel.prepare(source)
        x_TC = views(placed)["x_TC"]
        after = dict
        if source.shared is not None:
            shared = source.shared
            after = lambda: {"tied weight": shared.cpu().clone()}  # type: ignore[assignment]  # noqa: E731
        return Call(placed, lambda: {"y_TN": kernel(x_TC, packed)}, after, prepared=packed)

    def judge(self, case: Case, problem: Problem, seen: Observed, result: Result) -> None:
        from ..tensors import same

        super().judge(case, problem, seen, result)
        tied = seen.now.get("tied weight")
        if tied is not None and not same(tied, problem.weights["weight"]):
            result.fail("mutates", "the tied weight was changed; another site owns it too")
