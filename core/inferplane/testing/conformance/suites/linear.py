"""op "linear": unquantized, and of every scheme."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inferplane.spec import Candidate, LinearRequest, QuantScheme

from ..case import Case, Result
from ..sample import Sample
from ..schemes import SCHEMES, THOROUGH, UNKNOWN, UNKNOWN_INPUTS
from ..suite import Base, Edges, EdgeSuite, Traps
from ..target import Target

if TYPE_CHECKING:
    from ..problem import Call, Observed, Problem


@dataclass(frozen=True)
class Shape:
    """tied: the weight belongs to another site too."""

    tokens: int = 5
    tied: bool = False


def edges(base: Base) -> Edges:
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


def scheme_edges(base: Base, name: str, scheme: QuantScheme) -> Edges:
    """Of one scheme, with two groups or blocks at least. Parts are as large as blocks are, and a
    weight in another order has one."""
    high, wide = scheme.block if scheme.granularity == "block" else (1, scheme.group or 1)
    n, k = max(base["parts"][0], 2 * high), max(base["in_features"], 2 * wide)
    parts = (n,) if scheme.reordered else tuple(-(-m // high) * high for m in (n, n // 4, n // 2))
    every: Edges = {
        name: ({"parts": (n,)}, Shape()),
        f"{name}-parts-bias": ({"parts": parts, "bias": True}, Shape(2)),
    }
    if name in THOROUGH:
        ends = {"in_features": k + (wide // 2 or 2), "parts": (n + (high // 2 or 1),)}
        every |= {
            f"{name}-one-token": ({"parts": (2 * n,)}, Shape(1)),
            f"{name}-many-tokens": ({"parts": (2 * n,), "bias": True}, Shape(70)),
            f"{name}-one-output": ({"parts": (1,)}, Shape(3)),
            f"{name}-ends": (ends, Shape(3)),
            f"{name}-long-sum": ({"in_features": 4096}, Shape(2)),
        }
    common: dict[str, Any] = {"in_features": k, "scheme": scheme}
    return {at: (common | fields, shape) for at, (fields, shape) in every.items()}


class Linear(EdgeSuite):
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

    def edges(self, base: Base) -> Edges:
        found = edges(base)
        for name, scheme in SCHEMES.items():
            found |= scheme_edges(base, name, scheme)
        return found

    def drawn(self, target: Target, candidate: Candidate, dtype: str, rng: random.Random) -> Sample:
        if rng.random() < 0.4:
            return self._drawn_scheme(target, dtype, rng)
        sizes = [16, 64, 128, 576, rng.randint(1, 300)]
        parts = tuple(rng.choice(sizes) for _ in range(rng.choice([1, 1, 2, 3])))
        request = self.request(
            target, dtype, in_features=rng.choice(sizes), parts=parts, bias=rng.random() < 0.4
        )
        shape = Shape(rng.choice([1, 2, rng.randint(1, 70)]), rng.random() < 0.2)
        return Sample("drawn", request, shape, shape.tokens)

    def _drawn_scheme(self, target: Target, dtype: str, rng: random.Random) -> Sample:
        scheme = SCHEMES[rng.choice(list(SCHEMES))]
        count = 1 if scheme.reordered else rng.choice([1, 2, 3])
        parts = tuple(rng.choice([16, 64, 128, 256]) for _ in range(count))
        if scheme.granularity == "block":
            parts = tuple(128 for _ in parts)
        request = self.request(
            target,
            dtype,
            in_features=rng.choice([64, 128, 256, 512]),
            parts=parts,
            bias=rng.random() < 0.4,
            scheme=scheme,
        )
        shape = Shape(rng.choice([1, 2, rng.randint(1, 40)]))
        return Sample("drawn", request, shape, shape.tokens)

    def traps(self, target: Target, candidate: Candidate, base: Base) -> Traps:
        first = target.floats[0]
        yield "dtype int8", self.request(target, "int8", **base)
        yield "an unknown type of weights", self.request(target, first, **base, scheme=UNKNOWN)
        strange = self.request(target, first, **base, scheme=UNKNOWN_INPUTS)
        yield "an unknown type of inputs", strange

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
        allowed = None
        if request.scheme.quantized:
            weights, right, allowed = _quantized(request.scheme, x, parts, draw)
        else:
            weights = {"weight": draw.weight(sum(parts), inputs, dtype=request.dtype)}
            right = x.double() @ weights["weight"].double().T
        if request.bias:
            weights["bias"] = draw.normal(sum(parts), dtype=request.dtype)
            right = right + weights["bias"].double()
        return Problem({"x_TC": x}, {"y_TN": right}, weights=weights, length=inputs, extra=allowed)

    def start(self, case: Case, kernel: Any, problem: Problem, target: Target) -> Call:
        from ..problem import Call, place, views
        from ..quantized import rows_of
        from ..weights import HostSource

        placed = place(problem, target)
        request = case.request
        assert isinstance(request, LinearRequest)
        parts, scheme = self.local(request)[1], request.scheme
        rows = (lambda name: rows_of(scheme, parts, name)) if scheme.quantized else None
        source = HostSource(problem.weights, target, parts, tied=case.shape.tied, rows_of=rows)
        packed = kernel.prepare(source)
        x_TC = views(placed)["x_TC"]
        after = dict
        if source.shared is not None:
            shared = source.shared
            after = lambda: {"tied weight": shared.cpu().clone()}  # type: ignore[assignment]  # noqa: E731
        return Call(placed, lambda: {"y_TN": kernel(x_TC, packed)}, after, prepared=packed)

    def judge(self, case: Case, problem: Problem, seen: Observed, result: Result) -> None:
        from ..checks import parity, within
        from ..tensors import same

        assert isinstance(case.request, LinearRequest)
        op = "linear.quantized" if case.request.scheme.quantized else "linear"
        parity(op, self.dtype(case), within(problem, seen, "y_TN", problem.extra), seen, result)
        tied = seen.now.get("tied weight")
        if tied is not None and not same(tied, problem.weights["weight"]):
            result.fail("mutates", "the tied weight was changed; another site owns it too")


def _quantized(scheme: QuantScheme, x_TC: Any, parts: tuple[int, ...], draw: Any) -> Any:
    """(canonical tensors, the right result, what two right kernels may differ by)."""
    from ..quantized import Sizes, doubt, seen, worth
    from ..quantized import draw as drawn

    weights = drawn(scheme, Sizes(parts, x_TC.shape[1]), draw)
    weight_NC = worth(scheme, weights, parts)
    right = seen(scheme, x_TC, weights) @ weight_NC.T
    return weights, right, doubt(scheme, x_TC, weights) @ weight_NC.abs().T
