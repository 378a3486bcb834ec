"""ops "norm.rms" and "norm.add_rms"."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from inferplane.spec import Candidate, NormRequest

from ..case import Case
from ..sample import Sample
from ..suite import Base, Suite, Traps
from ..target import HOST, Target

if TYPE_CHECKING:
    from ..problem import Call, Problem


@dataclass(frozen=True)
class Shape:
    """leading: axes before the normed one. scale: of the input's values. strided: x is a slice of
    wider rows, as q and k are."""

    leading: tuple[int, ...] = (5,)
    scale: float = 1.0
    strided: bool = False


EDGES: dict[str, tuple[dict[str, Any], Shape]] = {
    "one-token": ({}, Shape((1,))),
    "odd-size": ({"size": 33}, Shape((7,))),
    "one-element": ({"size": 1}, Shape((3,))),
    "wide": ({"size": 4096}, Shape((3,))),
    "many-tokens": ({}, Shape((257,))),
    "large-values": ({}, Shape((4,), scale=1e3)),
    "small-values": ({"eps": 1e-3}, Shape((4,), scale=1e-3)),
    "large-eps": ({"eps": 0.5}, Shape((4,), scale=0.5)),
    "weight-offset": ({"weight_offset": 1.0}, Shape((5,))),
}
HEADS: dict[str, tuple[dict[str, Any], Shape]] = {
    "heads": ({}, Shape((5, 4))),
    "heads-strided": ({}, Shape((5, 4), strided=True)),
    "heads-one-token": ({}, Shape((1, 2), strided=True)),
}


class Norm(Suite):
    op, area = "norm.rms", "ops"
    edges = EDGES | HEADS
    bases = ({"size": 64}, {"size": 128}, {"size": 1024}, {"size": 4096})

    def request(self, target: Target, dtype: str, **fields: Any) -> NormRequest:
        given: dict[str, Any] = {"op": self.op, "dtype": dtype, "eps": 1e-6} | fields
        return NormRequest(device=target.props, **given)

    def samples(
        self, target: Target, candidate: Candidate, dtype: str, base: Base
    ) -> Iterator[Sample]:
        for name, (fields, shape) in self.edges.items():
            request = self.request(target, dtype, **(base | fields))
            yield Sample(name, request, shape, shape.leading[0])

    def drawn(self, target: Target, candidate: Candidate, dtype: str, rng: random.Random) -> Sample:
        fields = {
            "size": rng.choice([16, 48, 96, 128, 576, rng.randint(1, 1500)]),
            "eps": rng.choice([1e-6, 1e-5, 1e-2]),
            "weight_offset": rng.choice([0.0, 0.0, 1.0]),
        }
        shape = Shape((rng.choice([1, 2, 17, rng.randint(1, 80)]),), rng.choice([0.1, 1.0, 20.0]))
        request = self.request(target, dtype, **fields)
        return Sample("drawn", request, shape, shape.leading[0])

    def traps(self, target: Target, candidate: Candidate, base: Base) -> Traps:
        yield "dtype int8", self.request(target, "int8", **base)

    def problem(self, case: Case, target: Target, seed: int) -> Problem:
        from inferplane.reference.norm import rms_norm

        from ..numbers import Numbers
        from ..problem import Problem

        request, shape = case.request, case.shape
        assert isinstance(request, NormRequest)
        draw = Numbers(seed)
        width = 2 if shape.strided else 1
        leading = (shape.leading[0], shape.leading[-1] * width)[: len(shape.leading)]
        x = draw.normal(*leading, request.size, dtype=request.dtype, scale=shape.scale)
        weight = draw.weight(request.size, dtype=request.dtype)
        right = rms_norm(replace(request, dtype="fp64", device=HOST))(
            self.view(x, shape).double(), weight.double()
        )
        return Problem({"x": x, "weight_C": weight}, {"y": right}, length=request.size)

    def view(self, x: Any, shape: Shape) -> Any:
        return x[:, : shape.leading[1]] if shape.strided else x

    def start(self, case: Case, kernel: Any, problem: Problem, target: Target) -> Call:
        from ..problem import Call, place, views

        placed = place(problem, target)
        given = views(placed)
        x = self.view(given["x"], case.shape)
        return Call(placed, lambda: {"y": kernel(x, given["weight_C"])})


class AddNorm(Norm):
    op = "norm.add_rms"
    edges = EDGES

    def problem(self, case: Case, target: Target, seed: int) -> Problem:
        from inferplane.reference.norm import add_rms_norm

        from ..numbers import Numbers
        from ..problem import Problem

        request, shape = case.request, case.shape
        assert isinstance(request, NormRequest)
        draw = Numbers(seed)
        size = (*shape.leading, request.size)
        x, residual = (draw.normal(*size, dtype=request.dtype, scale=shape.scale) for _ in "xr")
        weight = draw.weight(request.size, dtype=request.dtype)
        y, total = add_rms_norm(replace(request, dtype="fp64", device=HOST))(
            x.double(), residual.double(), weight.double()
        )
        return Problem(
            {"x_TC": x, "residual_TC": residual, "weight_C": weight},
            {"y_TC": y, "new_residual_TC": total},
            writes=frozenset({"x_TC", "residual_TC"}),
            length=request.size,
        )

    def start(self, case: Case, kernel: Any, problem: Problem, target: Target) -> Call:
        from ..problem import Call, place, views

        placed = place(problem, target)
        given = views(placed)

        def run() -> dict[str, Any]:
            y, residual = kernel(given["x_TC"], given["residual_TC"], given["weight_C"])
            return {"y_TC": y, "new_residual_TC": residual}

        return Call(placed, run)
