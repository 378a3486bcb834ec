"""op "embedding"."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from inferplane.spec import Candidate, EmbeddingRequest

from ..case import Case
from ..sample import Sample
from ..suite import Base, Edges, EdgeSuite, Traps
from ..target import HOST, Target

if TYPE_CHECKING:
    from ..problem import Call, Problem


@dataclass(frozen=True)
class Shape:
    """rank: which part of the vocabulary is held, where it is sharded."""

    tokens: int = 5
    rank: int = 0


EDGES: Edges = {
    "one-token": ({}, Shape(1)),
    "odd-size": ({"size": 33}, Shape(7)),
    "one-row": ({"vocab": 1}, Shape(3)),
    "many-tokens": ({"vocab": 1000}, Shape(300)),
    "scale": ({"scale": 11.25}, Shape()),
    "sharded-first": ({"sharding": "vocabulary", "shards": 2}, Shape(9, 0)),
    "sharded-last": ({"sharding": "vocabulary", "shards": 2}, Shape(9, 1)),
}


class Embedding(EdgeSuite):
    op, area = "embedding", "ops"
    bases = ({"size": 64}, {"size": 128, "vocab": 128}, {"size": 1024, "vocab": 1024})

    def request(self, target: Target, dtype: str, **fields: Any) -> EmbeddingRequest:
        given: dict[str, Any] = {"vocab": 96, "size": 64} | fields
        return EmbeddingRequest(device=target.props, dtype=dtype, **given)

    def edges(self, base: Base) -> Edges:
        return EDGES

    def drawn(self, target: Target, candidate: Candidate, dtype: str, rng: random.Random) -> Sample:
        fields = {"vocab": rng.randint(2, 3000), "size": rng.choice([16, 96, rng.randint(1, 400)])}
        shape = Shape(rng.choice([1, rng.randint(1, 100)]))
        scale = rng.choice([1.0, 1.0, 3.5])
        request = self.request(target, dtype, **fields, scale=scale)
        return Sample("drawn", request, shape, shape.tokens)

    def traps(self, target: Target, candidate: Candidate, base: Base) -> Traps:
        yield "dtype nf4", self.request(target, "nf4", **base)

    def problem(self, case: Case, target: Target, seed: int) -> Problem:
        from inferplane.reference.embedding import Embedding as Reference

        from ..numbers import Numbers
        from ..problem import Problem
        from ..weights import HostSource

        request, shape = case.request, case.shape
        assert isinstance(request, EmbeddingRequest)
        draw = Numbers(seed)
        rows = request.vocab // request.shards
        weight = draw.normal(rows, request.size, dtype=request.dtype)
        ids = draw.integers(0, request.vocab, shape.tokens)
        ids[0], ids[-1] = 0, request.vocab - 1
        oracle = Reference(replace(request, dtype="fp64", device=HOST))
        source = HostSource({"weight": weight.double()}, first=shape.rank * rows)
        right = oracle(ids, oracle.prepare(source))
        return Problem(
            {"ids_T": ids},
            {"x_TC": right},
            indices=frozenset({"ids_T"}),
            weights={"weight": weight},
        )

    def start(self, case: Case, kernel: Any, problem: Problem, target: Target) -> Call:
        from ..problem import Call, place, views
        from ..weights import HostSource

        placed = place(problem, target)
        rows = problem.weights["weight"].shape[0]
        packed = kernel.prepare(HostSource(problem.weights, target, first=case.shape.rank * rows))
        ids = views(placed)["ids_T"]
        return Call(placed, lambda: {"x_TC": kernel(ids, packed)}, prepared=packed)
