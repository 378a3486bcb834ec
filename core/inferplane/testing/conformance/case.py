"""A case, and what became of it. Plain data, no torch."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any, Literal

from inferplane.spec import Candidate, Request

Status = Literal["passed", "failed", "refused", "not run"]

AREAS = (
    "contract",
    "ops",
    "attention",
    "linear",
    "moe",
    "blocks",
    "layers",
    "sample",
    "collectives",
    "graphs",
    "memory",
    "model",
)


@dataclass(frozen=True)
class Case:
    """One thing to find out. `id` is stable: it does not depend on how many cases there are.

    op, candidate: what is tested; for things that are no kernel, the area and a plain word.
    request: asked of the candidate first; None where nothing is asked. shape: what the request
    does not say, for the suite. runner: `runner(case, target) -> Result`.
    """

    area: str
    op: str
    candidate: str
    name: str
    request: Request | None = None
    shape: Any = None
    offer: Candidate | None = field(default=None, compare=False, repr=False)
    runner: Any = field(default=None, compare=False, repr=False)

    @property
    def id(self) -> str:
        return f"{self.op}/{self.candidate}/{self.name}"

    @property
    def seed(self) -> int:
        """Of the case's numbers: the same for every candidate of the op."""
        return zlib.crc32(f"{self.op}/{self.name}".encode())


@dataclass(frozen=True)
class Failure:
    """A promise that was broken. check: its short name, see docs/conformance.md."""

    check: str
    message: str


@dataclass
class Result:
    """What became of a case.

    error: the largest error of the results, as a share of the largest right value; None where
    nothing was measured. bound: what was allowed. note: why it was refused or not run.
    """

    case: Case
    status: Status = "passed"
    failures: list[Failure] = field(default_factory=list)
    error: float | None = None
    bound: float | None = None
    dtype: str = ""
    note: str = ""
    seconds: float = 0.0

    def fail(self, check: str, message: str) -> None:
        self.status = "failed"
        self.failures.append(Failure(check, message))

    def measured(self, error: float, bound: float) -> None:
        """Keeps the largest error, with its bound."""
        if self.error is None or not error <= self.error:
            self.error, self.bound = error, bound


def refused(case: Case, reason: str) -> Result:
    return Result(case, "refused", note=reason)


def not_run(case: Case, reason: str) -> Result:
    return Result(case, "not run", note=reason)
