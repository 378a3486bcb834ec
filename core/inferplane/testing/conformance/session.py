"""All cases of a device, filtered, and run one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from inferplane.errors import UserError, nearest

from . import answers, caches, collectives, faults, graphs, listing, memory, model, preparing
from .case import AREAS, Case, Result
from .suites import OPS_WITH_SUITES, find
from .target import Target

_OTHERS = (answers, caches, faults, preparing, memory, graphs, collectives, model)
_DRAWN = re.compile(r"/drawn-(\d+)\.")
DRAWS = 24


@dataclass(frozen=True)
class Choice:
    """What to run. Empty means all. draws: drawn cases of each candidate."""

    areas: tuple[str, ...] = ()
    op: str = ""
    candidate: str = ""
    case: str = ""
    draws: int = DRAWS

    def __post_init__(self) -> None:
        for area in self.areas:
            if area not in AREAS:
                known = ", ".join(AREAS)
                raise UserError(f"no area {area!r}{nearest(area, AREAS)}; areas: {known}")

    @property
    def complete(self) -> bool:
        return not (self.areas or self.op or self.candidate or self.case)

    def enough_draws(self) -> int:
        """As many as the named case needs."""
        drawn = _DRAWN.search(self.case)
        return max(self.draws, int(drawn.group(1)) + 1) if drawn else self.draws

    def wants(self, case: Case) -> bool:
        if self.case:
            return case.id == self.case
        return (
            (not self.areas or case.area in self.areas)
            and self.op in ("", case.op)
            and self.candidate in ("", case.candidate)
        )


@dataclass
class Session:
    """The cases of a target. Listing them touches no device."""

    target: Target
    choice: Choice = field(default_factory=Choice)

    @cached_property
    def cases(self) -> list[Case]:
        """Raises UserError where the choice leaves nothing."""
        every = list(self._every())
        chosen = [case for case in every if self.choice.wants(case)]
        if not chosen:
            raise UserError(self._nothing(every))
        return chosen

    def _every(self) -> Iterator[Case]:
        draws, seen = self.choice.enough_draws(), set()
        for case in self._listed(draws):
            assert case.id not in seen, f"two cases are called {case.id}"
            seen.add(case.id)
            yield case

    def _listed(self, draws: int) -> Iterator[Case]:
        for op in OPS_WITH_SUITES:
            suite = find(op)
            assert suite is not None
            named = self.choice.candidate or self.choice.case.split("/")[1:2]
            name = named if isinstance(named, str) else "".join(named)
            for candidate in self.target.offers(op, name if name.startswith("reference.") else ""):
                yield from listing.cases(suite, self.target, candidate, draws)
        for part in _OTHERS:
            yield from part.cases(self.target, draws)

    def _nothing(self, every: list[Case]) -> str:
        choice = self.choice
        if choice.case:
            return f"no case {choice.case!r}{nearest(choice.case, [c.id for c in every])}"
        ops = sorted({case.op for case in every})
        names = sorted({case.candidate for case in every})
        if choice.op and choice.op not in ops:
            return f"no cases of op {choice.op!r}{nearest(choice.op, ops)}; ops: {', '.join(ops)}"
        if choice.candidate and choice.candidate not in names:
            found = f"{choice.candidate!r}{nearest(choice.candidate, names)}"
            return f"no candidate {found}; candidates: {', '.join(names)}"
        return "no case is in this area for this op and candidate"

    def run(self, case: Case) -> Result:
        """Never raises for what a kernel does."""
        assert case.runner is not None
        try:
            result: Result = case.runner(case, self.target)
        except Exception as error:
            from .driver import explain

            result = Result(case)
            result.fail("raises", explain(error))
        return result

    def results(self) -> Iterator[Result]:
        for case in self.cases:
            yield self.run(case)
