"""The engine: requests in, tokens out, one step at a time."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from inferplane.batch import Batch
from inferplane.cache.manager import CacheGroup, KVCache
from inferplane.errors import EngineDead
from inferplane.executor.base import Done, Executor, Pending
from inferplane.scheduler.policy import POLICIES
from inferplane.scheduler.request import Finish, Output, Request
from inferplane.scheduler.scheduler import Scheduler
from inferplane.spec import Fault

from .recovery import Recovery, first_line

if TYPE_CHECKING:
    from inferplane.planning.plan import Plan

log = logging.getLogger("inferplane.engine")


@dataclass
class Stats:
    """Counts since the start; times in seconds. faults: "memory", "kernel" and "lost" count steps,
    "numerics" rows."""

    steps: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    failed_steps: int = 0
    busy_s: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)


class Engine:
    """Wires scheduler, cache and executor. `step` is called while `unfinished` is not 0.

    dead: why the engine cannot go on, "" while it can.
    """

    def __init__(self, plan: Plan, executor: Executor) -> None:
        effective = plan.effective
        self.plan = plan
        self.executor = executor
        groups = [
            CacheGroup(kind=g.kind, page_size=g.page_size, pages=pages, window=g.window)
            for g, pages in zip(plan.groups, plan.budget.pages, strict=True)
        ]
        self.cache = KVCache(
            groups,
            effective["max_num_seqs"],
            effective["max_model_len"],
            effective["enable_prefix_caching"],
        )
        self.scheduler = Scheduler(
            self.cache,
            POLICIES[effective["policy"]](),
            max_seqs=effective["max_num_seqs"],
            budget=effective["max_num_batched_tokens"],
            max_length=effective["max_model_len"],
        )
        self.stats = Stats()
        self.dead = ""
        self._recovery = Recovery(executor)
        self._pending: deque[Pending] = deque()
        self._suspect: Exception | None = None  # raised by a launch, with steps in flight
        self._aborted: list[str] = []

    def add(self, request: Request) -> None:
        """Raises UserError for a request that could never run; EngineDead."""
        self._check_alive()
        self.scheduler.add(request)
        self.stats.prompt_tokens += request.prompt_length

    def abort(self, id: str) -> bool:
        """Ends a request; its `Output` says ABORT. False if it was not here."""
        if not self.scheduler.abort(id):
            return False
        self._aborted.append(id)
        return True

    @property
    def unfinished(self) -> int:
        return self.scheduler.unfinished + len(self._pending) + len(self._aborted)

    def step(self) -> list[Output]:
        """Launches the next batch, and commits the oldest one when enough are in flight.

        An error of a step ends its requests, or runs them again in smaller steps. Raises EngineDead
        when the device is lost; everything has ended then.
        """
        self._check_alive()
        begin = time.perf_counter()
        outputs = [Output(id, [], Finish.ABORT) for id in self._aborted]
        self._aborted.clear()
        batch = self.scheduler.schedule()
        if batch is not None:
            self._pending.append(self._launch(batch))
        if self._pending and (batch is None or len(self._pending) >= self.executor.depth):
            outputs += self._commit()
        self.stats.steps += batch is not None
        self.stats.busy_s += time.perf_counter() - begin
        return outputs

    def _check_alive(self) -> None:
        if self.dead:
            raise EngineDead(self.dead)

    def _launch(self, batch: Batch) -> Pending:
        try:
            return self.executor.launch(batch)
        except Exception as error:
            return self._not_launched(error)
        except BaseException:  # Ctrl-C: what was launched runs again, if anyone still wants it
            self._pending.clear()
            self.scheduler.rewind()
            raise

    def _not_launched(self, error: Exception) -> Pending:
        """The error may be that of a step in flight, which is told once, to whoever calls next: no
        result of those steps can be trusted. Memory is asked for, and refused, at once."""
        if self._pending and self._recovery.sort(error) is not Fault.MEMORY:
            self._suspect = error
        return Done(None, error)

    def _commit(self) -> list[Output]:
        pending = self._pending.popleft()
        try:
            result = pending.result()
            if self._suspect is not None:
                raise self._suspect
        except Exception as error:
            return self._fail(error)
        outputs = self.scheduler.commit(result)
        if result.errors:  # rows of requests that had ended already do not count
            wrong = sum(output.finish is Finish.ERROR for output in outputs)
            self.stats.faults["numerics"] += wrong
        for output in outputs:
            self.stats.output_tokens += len(output.tokens)
            if output.finish:
                self.stats.cached_tokens += max(0, output.cached)
        return outputs

    def _fail(self, error: Exception) -> list[Output]:
        """The oldest launched step raised; those launched behind it are of no use."""
        behind, steps = list(self._pending), 1
        if self._suspect is not None:
            self._suspect, steps = None, len(self.scheduler.launched)
        self._pending.clear()
        fault = self._recovery.after(error, behind, self.scheduler.launched[0][0])
        told = f"{type(error).__name__}: {first_line(error)}"
        self.stats.failed_steps += 1
        self.stats.faults[fault.value] += 1
        if fault is Fault.MEMORY:
            return self.scheduler.retreat(self._recovery.advice(told))
        if fault is Fault.KERNEL:
            return self.scheduler.fail(f"the step failed: {told}", steps)
        self.dead = f"the device is lost: {told}"
        self.scheduler.end(self.dead)
        raise EngineDead(self.dead)

    def check_invariants(self) -> None:
        """Asserts that pages, references and slots add up."""
        self.scheduler.check_invariants()

    def close(self) -> None:
        self.executor.close()
