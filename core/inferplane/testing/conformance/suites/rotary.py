"""op "rotary". q and k are views of one projection's result, as in the model."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from inferplane.layers.rotary import Rope, table
from inferplane.spec import Candidate, RotaryRequest

from ..case import Case
from ..sample import Sample
from ..suite import Base, Edges, EdgeSuite, Traps
from ..target import HOST, Target

if TYPE_CHECKING:
    from ..problem import Call, Problem


@dataclass(frozen=True)
class Shape:
    """tokens of the step; last: the largest position, which the last token has."""

    tokens: int = 5
    last: int = 200


EDGES: Edges = {
    "one-token": ({}, Shape(1, 0)),
    "one-token-far": ({}, Shape(1, 4095)),
    "many-tokens": ({}, Shape(130, 1000)),
    "one-head": ({"heads": 1, "kv_heads": 1}, Shape()),
    "head-size-64": ({"head_dim": 64}, Shape()),
    "head-size-80": ({"head_dim": 80}, Shape()),
    "head-size-128": ({"head_dim": 128}, Shape()),
    "partial": ({"rotary_dim": 16}, Shape()),
    "interleaved": ({"style": "interleaved"}, Shape()),
    "interleaved-partial": ({"style": "interleaved", "rotary_dim": 16}, Shape()),
}


class Rotary(EdgeSuite):
    op, area = "rotary", "ops"
    bases = (
        {"head_dim": 32},
        {"head_dim": 64},
        {"head_dim": 128},
        {"head_dim": 128, "heads": 8, "kv_heads": 1},
    )

    def request(self, target: Target, dtype: str, **fields: Any) -> RotaryRequest:
        given: dict[str, Any] = {"heads": 4, "kv_heads": 2, "head_dim": 32} | fields
        given.setdefault("rotary_dim", given["head_dim"])
        return RotaryRequest(device=target.props, dtype=dtype, **given)

    def edges(self, base: Base) -> Edges:
        return EDGES

    def drawn(self, target: Target, candidate: Candidate, dtype: str, rng: random.Random) -> Sample:
        size, kv_heads = rng.choice([16, 32, 64, 96, 128, 256]), rng.choice([1, 2, 3])
        fields = {
            "head_dim": size,
            "kv_heads": kv_heads,
            "heads": kv_heads * rng.choice([1, 2, 4, 7]),
            "rotary_dim": rng.choice([size, size, size // 2]),
            "style": rng.choice(["neox", "neox", "interleaved"]),
        }
        shape = Shape(rng.choice([1, rng.randint(1, 90)]), rng.randint(0, 4095))
        return Sample("drawn", self.request(target, dtype, **fields), shape, shape.tokens)

    def traps(self, target: Target, candidate: Candidate, base: Base) -> Traps:
        yield "dtype int8", self.request(target, "int8", **base)

    def problem(self, case: Case, target: Target, seed: int) -> Problem:
        import torch

        from inferplane.reference.rotary import Rotary as Reference

        from ..numbers import Numbers
        from ..problem import Problem

        request, shape = case.request, case.shape
        assert isinstance(request, RotaryRequest)
        draw = Numbers(seed)
        rows = request.heads + 2 * request.kv_heads
        x = draw.normal(shape.tokens, rows, request.head_dim, dtype=request.dtype)
        positions = draw.integers(0, shape.last + 1, shape.tokens)
        positions[-1] = shape.last
        angles = table(Rope(request.rotary_dim), shape.last + 1, "cpu")
        oracle, right = Reference(replace(request, dtype="fp64", device=HOST)), x.double()
        oracle(*self.views(request, right), oracle.step(angles.double(), positions))
        still = torch.ones(x.shape, dtype=torch.bool)
        still[:, : request.heads + request.kv_heads, : request.rotary_dim] = False
        return Problem(
            {"qkv": x, "table": angles, "positions_T": positions},
            {"qkv": right},
            indices=frozenset({"positions_T"}),
            writes=frozenset({"qkv"}),
            untouched={"qkv": still},
        )

    def views(self, request: RotaryRequest, x: Any) -> tuple[Any, Any]:
        heads = request.heads
        return x[:, :heads], x[:, heads : heads + request.kv_heads]

    def start(self, case: Case, kernel: Any, problem: Problem, target: Target) -> Call:
        from ..problem import Call, place, views

        placed = place(problem, target)
        given = views(placed)
        assert isinstance(case.request, RotaryRequest)
        q_THD, k_TKD = self.views(case.request, given["qkv"])

        def run() -> dict[str, Any]:
            kernel(q_THD, k_TKD, kernel.step(given["table"], given["positions_T"]))
            return {}

        return Call(placed, run)
