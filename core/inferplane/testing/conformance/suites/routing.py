"""op "moe.route": which experts, in which order, with which weights."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inferplane.spec import Candidate, RoutingRequest

from ..case import Case, Result
from ..sample import Sample
from ..suite import Base, Edges, EdgeSuite, Traps
from ..target import Target

if TYPE_CHECKING:
    from ..problem import Call, Observed, Problem


@dataclass(frozen=True)
class Shape:
    """logits: drawn; of three values only ("ties"); all equal; or so far apart that most scores are
    0 in fp32."""

    tokens: int = 9
    logits: str = "drawn"


def edges(base: Base) -> Edges:
    experts, top = base["experts"], base["top_k"]
    v3 = {"scoring": "sigmoid", "bias": True, "groups": 4, "top_groups": 2, "scaling": 2.5}
    return {
        "one-token": ({}, Shape(1)),
        "many-tokens": ({}, Shape(130)),
        "top-1": ({"top_k": 1}, Shape()),
        "every-expert": ({"top_k": experts}, Shape()),
        "not-renormalized": ({"renormalize": False}, Shape()),
        "top-1-not-renormalized": ({"top_k": 1, "renormalize": False}, Shape()),
        "sigmoid": ({"scoring": "sigmoid"}, Shape()),
        "sigmoid-not-renormalized": ({"scoring": "sigmoid", "renormalize": False}, Shape()),
        "bias": ({"bias": True}, Shape()),
        "sigmoid-bias": ({"scoring": "sigmoid", "bias": True}, Shape(33)),
        "scaling": ({"scaling": 16.0, "renormalize": False}, Shape()),
        "groups-by-best": ({"groups": 4, "top_groups": 2, "group_score": "max"}, Shape(33)),
        "groups-by-two": ({"groups": 4, "top_groups": 2, "group_score": "top2"}, Shape(33)),
        "one-group": ({"groups": 4, "top_groups": 1, "top_k": min(top, experts // 4)}, Shape(33)),
        "groups-bias": (v3, Shape(70)),
        "shared": ({"shared": 1}, Shape()),
        "two-shared-scaled": (v3 | {"shared": 2}, Shape()),
        "ties": ({}, Shape(33, "ties")),
        "ties-in-groups": (
            {"groups": 4, "top_groups": 2, "group_score": "max"},
            Shape(33, "ties"),
        ),
        "all-equal": ({}, Shape(3, "equal")),
        "far-apart": ({}, Shape(9, "far")),
        "sigmoid-far-apart": ({"scoring": "sigmoid"}, Shape(9, "far")),
    }


class Routing(EdgeSuite):
    op, area = "moe.route", "moe"
    bases = (
        {"experts": 16, "top_k": 4},
        {"experts": 128, "top_k": 8},
        {"experts": 256, "top_k": 8},
        {"experts": 8, "top_k": 2},
    )

    def request(self, target: Target, dtype: str, **fields: Any) -> RoutingRequest:
        return RoutingRequest(device=target.props, dtype=dtype, **fields)

    def edges(self, base: Base) -> Edges:
        return edges(base)

    def drawn(self, target: Target, candidate: Candidate, dtype: str, rng: random.Random) -> Sample:
        experts = rng.choice([8, 16, 32, 64, 128, 160, 256])
        fields: dict[str, Any] = {
            "experts": experts,
            "top_k": rng.choice([1, 2, 4, 8]),
            "scoring": rng.choice(["softmax", "sigmoid"]),
            "renormalize": rng.random() < 0.6,
            "bias": rng.random() < 0.3,
            "scaling": rng.choice([1.0, 1.0, 2.5]),
            "shared": rng.choice([0, 0, 1]),
        }
        if rng.random() < 0.4:
            fields |= {"groups": 8, "top_groups": 8, "group_score": "max"}
            if experts >= 64:
                fields["top_groups"], fields["group_score"] = 4, rng.choice(["max", "top2"])
        shape = Shape(rng.choice([1, 2, rng.randint(1, 80)]), rng.choice(["drawn"] * 4 + ["ties"]))
        return Sample("drawn", self.request(target, dtype, **fields), shape, shape.tokens)

    def traps(self, target: Target, candidate: Candidate, base: Base) -> Traps:
        yield "dtype int8", self.request(target, "int8", **base)
        strange = self.request(target, target.floats[0], **base, scoring="kit")
        yield "an unknown score", strange

    def problem(self, case: Case, target: Target, seed: int) -> Problem:
        from ..routed import problem

        return problem(case, seed)

    def start(self, case: Case, kernel: Any, problem: Problem, target: Target) -> Call:
        from ..problem import Call, place, views

        placed = place(problem, target)
        given = views(placed)

        def run() -> dict[str, Any]:
            weights_TE, experts_TE = kernel(*given.values())
            return {"weights_TE": weights_TE, "experts_TE": experts_TE}

        return Call(placed, run)

    def judge(self, case: Case, problem: Problem, seen: Observed, result: Result) -> None:
        from ..routed import judge

        judge(case, problem, seen, result)
