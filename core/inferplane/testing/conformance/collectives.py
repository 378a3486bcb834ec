"""Area "collectives": over two processes, each with a device of its own where there are two.

Names of checks: "collective" (values), "in-place" (all_reduce and broadcast write their input and
all_reduce returns it; the others leave it alone).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from inferplane.plugins.resolution import ask
from inferplane.spec import CollectiveRequest

from .case import Case, Result, not_run, refused
from .target import Target

if TYPE_CHECKING:
    import torch

RANKS = 2


@dataclass(frozen=True)
class Shape:
    """size: of every rank's tensor. axis, source: of the call. splits: rows that rank i sends to
    rank j, for all_to_all."""

    size: tuple[int, ...] = (4, 6)
    axis: int = 0
    source: int = 0
    splits: tuple[tuple[int, ...], ...] = ()


EDGES: dict[str, dict[str, Shape]] = {
    "all_reduce": {
        "one-element": Shape((1,)),
        "odd-size": Shape((3, 7)),
        "matrix": Shape((16, 64)),
        "large": Shape((257, 1024)),
    },
    "all_gather": {
        "one-element": Shape((1,)),
        "rows": Shape((3, 5)),
        "columns": Shape((3, 5), axis=1),
        "three-axes": Shape((2, 3, 4), axis=2),
    },
    "reduce_scatter": {
        "rows": Shape((4, 5)),
        "columns": Shape((3, 8), axis=1),
        "one-row-each": Shape((2, 33)),
    },
    "all_to_all": {
        "even": Shape((4, 3), splits=((2, 2), (2, 2))),
        "uneven": Shape((3, 5), splits=((1, 2), (3, 0))),
        "nothing-to-itself": Shape((2, 4), splits=((0, 2), (2, 0))),
        "nothing-at-all": Shape((0, 4), splits=((0, 0), (0, 0))),
    },
    "broadcast": {
        "from-first": Shape((5, 3)),
        "from-last": Shape((5, 3), source=1),
    },
}


def cases(target: Target, draws: int) -> Iterator[Case]:
    ranks = Ranks()
    for op, edges in EDGES.items():
        for candidate in target.offers(op):
            for dtype in target.floats:
                request = CollectiveRequest(op=op, device=target.props, ranks=RANKS, dtype=dtype)
                for name, shape in edges.items():
                    full = f"{name}.{dtype}"
                    run = partial(_run, ranks)
                    case = Case(
                        "collectives", op, candidate.name, full, request, shape, candidate, run
                    )
                    ranks.cases.append(case)
                    yield case


def payload(case: Case, rank: int) -> torch.Tensor:
    """Rank's input: whole numbers, so that sums are exact in every dtype."""
    import torch

    from inferplane.spec.torch_types import torch_dtype

    size = case.shape.size
    if case.shape.splits:
        size = (sum(case.shape.splits[rank]), *size[1:])
    generator = torch.Generator().manual_seed(case.seed + rank)
    numbers = torch.randint(-8, 9, size, generator=generator)
    assert isinstance(case.request, CollectiveRequest)
    return numbers.to(torch_dtype(case.request.dtype))


def right(case: Case, rank: int) -> torch.Tensor:
    """What rank must get."""
    import torch

    every = [payload(case, r) for r in range(RANKS)]
    shape = case.shape
    if case.op == "all_gather":
        return torch.cat(every, dim=shape.axis)
    if case.op == "broadcast":
        return every[shape.source]
    if case.op == "all_to_all":
        pieces = [every[r].split(list(shape.splits[r]))[rank] for r in range(RANKS)]
        return torch.cat(pieces)
    total = torch.stack(every).sum(0)
    if case.op == "all_reduce":
        return total
    return total.chunk(RANKS, dim=shape.axis)[rank]


class Ranks:
    """Runs all cases in one pair of processes, when the first result is asked for; a case that
    breaks the pair is found by running each alone."""

    def __init__(self) -> None:
        self.cases: list[Case] = []
        self.found: dict[str, Any] = {}

    def of(self, case: Case, target: Target) -> Any:
        """A list with each rank's report, or the text of what went wrong."""
        from .rank_processes import run

        if not self.found:
            self.found = run(target, [c for c in self.cases if ask(c.offer, c.request).ok])  # type: ignore[arg-type]
        if isinstance(self.found.get(case.id), str):
            self.found |= run(target, [case])
        return self.found[case.id]


def _run(ranks: Ranks, case: Case, target: Target) -> Result:
    from .driver import refusal

    begin, reason = time.perf_counter(), refusal(case)
    if reason is not None:
        return refused(case, reason)
    if target.data_only:
        return not_run(case, "no device")
    assert isinstance(case.request, CollectiveRequest)
    result = Result(case, dtype=case.request.dtype)
    reports = ranks.of(case, target)
    if isinstance(reports, str):
        result.fail("raises", reports)
        return result
    for rank, report in enumerate(reports):
        _judge(case, rank, report, result)
    if result.status == "passed":
        result.measured(0.0, 0.0)
    result.seconds = time.perf_counter() - begin
    return result


def _judge(case: Case, rank: int, report: dict[str, Any], result: Result) -> None:
    from .tensors import same

    if "error" in report:
        result.fail("raises", f"rank {rank}: {report['error']}")
        return
    wanted, given = right(case, rank), payload(case, rank)
    if not same(report["result"], wanted):
        found = report["result"].flatten()[:6].tolist()
        text = f"{found} (first numbers), not {wanted.flatten()[:6].tolist()}"
        result.fail("collective", f"rank {rank} got {text}")
    if case.op in ("all_reduce", "broadcast"):
        if not same(report["after"], wanted) or not report["is_input"]:
            result.fail("in-place", f"rank {rank}: the input must hold the result")
    elif not same(report["after"], given):
        result.fail("in-place", f"rank {rank}: the input was changed")
