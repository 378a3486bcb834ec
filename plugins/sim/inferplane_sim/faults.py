"""Decides, at each launch, allocation and collective, whether a planned fault happens. No torch.

with faults.inject("kernel", at=1): ...      the next launch fails
faults.inject("oom", every=100)              until the process ends, or `faults.clear()`
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .faultplan import COUNTED_BY, Counter, FaultPlan, Kind


@dataclass
class Armed:
    """A plan that waits. left: counts to go; due: when a timed one is next due. `with` ends it."""

    plan: FaultPlan
    injector: Injector
    left: int = 0
    due: float = 0.0
    happened: int = 0

    def __enter__(self) -> Armed:
        return self

    def __exit__(self, *_: object) -> None:
        self.injector.remove(self)


class Injector:
    """All plans of a process. `strike` is called once for each thing that is counted."""

    def __init__(
        self,
        plans: Iterable[FaultPlan] = (),
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.random = random.Random(seed)
        self.clock = clock
        self.armed: dict[Counter, list[Armed]] = {}
        self.counts: dict[Counter, int] = {"launch": 0, "allocation": 0, "collective": 0}
        for plan in plans:
            self.add(plan)

    def add(self, plan: FaultPlan) -> Armed:
        """Counts begin now."""
        armed = Armed(plan, self, plan.at or plan.every, self.clock() + plan.period_s)
        self.armed.setdefault(COUNTED_BY[plan.kind], []).append(armed)
        return armed

    def remove(self, armed: Armed) -> None:
        waiting = self.armed.get(COUNTED_BY[armed.plan.kind], [])
        if armed in waiting:
            waiting.remove(armed)

    def clear(self) -> None:
        self.armed.clear()

    def strike(self, counter: Counter, rank: int = 0) -> dict[Kind, FaultPlan]:
        """Counts one, and gives the faults that it has."""
        self.counts[counter] += 1
        waiting = self.armed.get(counter)
        if not waiting:
            return {}
        found: dict[Kind, FaultPlan] = {}
        for armed in list(waiting):
            due = self._due(armed) and armed.plan.rank in (-1, rank)
            if due and self.random.random() < armed.plan.probability:
                armed.happened += 1
                found[armed.plan.kind] = armed.plan
        return found

    def again(self, plan: FaultPlan) -> None:
        """Puts a fault that found nothing to act on before the next count."""
        self.add(FaultPlan(kind=plan.kind, at=1, delay_s=plan.delay_s, rank=plan.rank))

    def _due(self, armed: Armed) -> bool:
        if armed.plan.period_s:
            if self.clock() < armed.due:
                return False
            armed.due = self.clock() + armed.plan.period_s
            return True
        armed.left -= 1
        if armed.left > 0:
            return False
        if armed.plan.every:
            armed.left = armed.plan.every
        else:
            self.remove(armed)
        return True


def inject(
    kind: Kind,
    *,
    at: int = 0,
    every: int = 0,
    period_s: float = 0.0,
    probability: float = 1.0,
    delay_s: float = 1.0,
    rank: int = -1,
) -> Armed:
    """Plans a fault in this process; counts begin now. The next one, when no time is given."""
    from .driver import driver

    if not at and not every and not period_s:
        at = 1
    plan = FaultPlan(
        kind=kind,
        at=at,
        every=every,
        period_s=period_s,
        probability=probability,
        delay_s=delay_s,
        rank=rank,
    )
    return driver().injector.add(plan)


def clear() -> None:
    """Ends all planned faults. A lost device stays lost."""
    from .driver import driver

    driver().injector.clear()
