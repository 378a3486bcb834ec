"""What a file of `suites` says about one op."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from inferplane.spec import Candidate, Request

from .case import Case, Result
from .sample import Sample
from .target import Target

if TYPE_CHECKING:
    import random

    from .problem import Call, Observed, Problem


Base = dict[str, Any]
"""Fields of a request that an edge case does not care about, such as a head size."""

Edges = dict[str, tuple[dict[str, Any], Any]]
"""Name -> fields that differ from the base, and a shape, which has `tokens`."""

Traps = Iterator[tuple[str, Request]]


class Suite(ABC):
    """One op: which requests to ask, what is right, and how the kernel is called.

    `samples`, `drawn` and `traps` are data, and import no torch. bases: tried in order, so that a
    kernel for some sizes only still meets every edge.
    """

    op: str
    area: str
    bases: tuple[Base, ...] = ({},)

    @abstractmethod
    def samples(
        self, target: Target, candidate: Candidate, dtype: str, base: Base
    ) -> Iterator[Sample]:
        """The edges, for one dtype. Names are unique, and the same for every base."""

    @abstractmethod
    def drawn(self, target: Target, candidate: Candidate, dtype: str, rng: random.Random) -> Sample:
        """A sample out of the whole range that the op is used in."""

    def traps(self, target: Target, candidate: Candidate, base: Base) -> Traps:
        """Requests that nobody can serve: whoever says yes does not read them."""
        yield from ()

    def dtype(self, case: Case) -> str:
        return str(getattr(case.request, "dtype", ""))

    @abstractmethod
    def problem(self, case: Case, target: Target, seed: int) -> Problem:
        """Inputs and right results, on the host."""

    @abstractmethod
    def start(self, case: Case, kernel: Any, problem: Problem, target: Target) -> Call:
        """Puts everything in place on the device."""

    def poisoned(self, problem: Problem) -> Problem | None:
        """The same problem with NaN wherever the kernel must not read; None where it is done
        already, by the guards."""
        return None

    def judge(self, case: Case, problem: Problem, seen: Observed, result: Result) -> None:
        """(optional) Compares; the default compares every expected tensor within the bound."""
        from .checks import parity

        parity(self.op, self.dtype(case), problem, seen, result)


class EdgeSuite(Suite):
    """A suite whose edges are requests that differ from a base in some fields."""

    @abstractmethod
    def request(self, target: Target, dtype: str, **fields: Any) -> Request: ...

    @abstractmethod
    def edges(self, base: Base) -> Edges: ...

    def samples(
        self, target: Target, candidate: Candidate, dtype: str, base: Base
    ) -> Iterator[Sample]:
        for name, (fields, shape) in self.edges(base).items():
            yield Sample(name, self.request(target, dtype, **(base | fields)), shape, shape.tokens)
