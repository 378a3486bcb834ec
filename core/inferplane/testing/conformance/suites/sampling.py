"""op "sample": tokens exactly as the reference draws them, from the same counter-based noise."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inferplane.spec import Candidate, SampleRequest

from ..case import Case, Result
from ..sample import Sample as Asked
from ..suite import Base, Suite, Traps
from ..target import Target

if TYPE_CHECKING:
    from ..problem import Call, Observed, Problem

ALL = ("random", "top_k", "top_p", "min_p", "penalties", "bias", "mask", "processors", "logprobs")


@dataclass(frozen=True)
class Shape:
    """rows that sample. uses: features of the batch. ties: logits are small whole numbers.
    greedy: every so many rows is greedy. one_seed: rows differ in position only."""

    rows: int = 4
    uses: tuple[str, ...] = ()
    ties: bool = False
    greedy: int = 3
    one_seed: bool = False
    logprobs: int = 5


EDGES: dict[str, tuple[int, Shape]] = {
    "greedy": (97, Shape()),
    "greedy-one-row": (33, Shape(1)),
    "greedy-ties": (64, Shape(6, ties=True)),
    "greedy-one-token": (1, Shape(2)),
    "greedy-large-vocabulary": (50_257, Shape(2)),
    "greedy-penalties": (97, Shape(5, ("penalties",))),
    "greedy-bias": (97, Shape(5, ("bias",))),
    "greedy-mask": (97, Shape(5, ("mask",))),
    "greedy-logprobs": (97, Shape(4, ("logprobs",))),
    "greedy-logprobs-none": (97, Shape(4, ("logprobs",), logprobs=0)),
    "more-logprobs-than-tokens": (3, Shape(2, ("logprobs",), logprobs=20)),
    "random": (97, Shape(6, ("random",), greedy=99)),
    "random-one-seed": (997, Shape(16, ("random",), greedy=99, one_seed=True)),
    "random-and-greedy": (97, Shape(9, ("random",))),
    "random-ties": (33, Shape(9, ("random",), ties=True)),
    "top-k": (97, Shape(12, ("random", "top_k"))),
    "top-k-ties": (64, Shape(12, ("random", "top_k"), ties=True)),
    "top-p": (97, Shape(12, ("random", "top_p"))),
    "min-p": (97, Shape(12, ("random", "min_p"))),
    "top-k-top-p-min-p": (211, Shape(16, ("random", "top_k", "top_p", "min_p"))),
    "random-penalties": (97, Shape(6, ("random", "penalties"))),
    "random-bias": (97, Shape(6, ("random", "bias"))),
    "random-mask": (97, Shape(6, ("random", "mask"))),
    "processors": (97, Shape(4, ("processors",))),
    "random-logprobs": (97, Shape(6, ("random", "logprobs"))),
    "everything": (131, Shape(12, ALL)),
}


class Sample(Suite):
    op, area = "sample", "sample"

    def request(self, target: Target, vocab: int, uses: tuple[str, ...]) -> SampleRequest:
        return SampleRequest(device=target.props, vocab=vocab, extra=frozenset(uses))

    def samples(
        self, target: Target, candidate: Candidate, dtype: str, base: Base
    ) -> Iterator[Asked]:
        """Logits are fp32 whatever the device computes in."""
        if dtype != target.floats[0]:
            return
        for name, (vocab, shape) in EDGES.items():
            yield Asked(name, self.request(target, vocab, shape.uses), shape, shape.rows)
            if shape.uses != ALL:  # the kernel that serves all features, with a batch of few
                yield Asked(f"{name}-of-all", self.request(target, vocab, ALL), shape, shape.rows)

    def drawn(self, target: Target, candidate: Candidate, dtype: str, rng: random.Random) -> Asked:
        uses = tuple(u for u in ALL if rng.random() < 0.5)
        if "random" not in uses:
            uses = tuple(u for u in uses if u not in ("top_k", "top_p", "min_p"))
        shape = Shape(rng.randint(1, 12), uses, rng.random() < 0.2, rng.choice([2, 99]))
        vocab = rng.choice([rng.randint(2, 300), rng.randint(300, 5000)])
        return Asked("drawn", self.request(target, vocab, uses), shape, shape.rows)

    def traps(self, target: Target, candidate: Candidate, base: Base) -> Traps:
        yield "logits in int8", SampleRequest(device=target.props, vocab=97, dtype="int8")

    def problem(self, case: Case, target: Target, seed: int) -> Problem:
        from ..sampled import problem

        assert isinstance(case.request, SampleRequest)
        return problem(case.request, case.shape, seed)

    def start(self, case: Case, kernel: Any, problem: Problem, target: Target) -> Call:
        from ..problem import Call, place, views
        from ..sampled import sample_inputs

        placed = place(problem, target)
        given = views(placed)
        inputs = sample_inputs(given, case.shape)

        def run() -> dict[str, Any]:
            output = kernel(given["logits_BV"], inputs)
            names = ("tokens_B", "chosen_B", "rank_B", "top_ids_BL", "top_BL")
            found = {name: getattr(output, name) for name in names}
            return {name: value for name, value in found.items() if value is not None}

        return Call(placed, run)

    def judge(self, case: Case, problem: Problem, seen: Observed, result: Result) -> None:
        from ..sampled import judge

        judge(problem, seen, result)
