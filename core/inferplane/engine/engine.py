"""The engine: requests in, tokens out, one step at a time."""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferplane.cache.manager import CacheGroup, KVCache
from inferplane.executor.base import Executor, Pending
from inferplane.scheduler.policy import POLICIES
from inferplane.scheduler.request import Finish, Output, Request
from inferplane.scheduler.scheduler import Scheduler

if TYPE_CHECKING:
    from inferplane.planning.plan import Plan

log = logging.getLogger("inferplane.engine")


@dataclass
class Stats:
    """Counts since the start; times in seconds."""

    steps: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    failed_steps: int = 0
    busy_s: float = 0.0


class Engine:
    """Wires scheduler, cache and executor. `step` is called while `unfinished` is not 0."""

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
        self._pending: deque[Pending] = deque()
        self._aborted: list[str] = []

    def add(self, request: Request) -> None:
        """Raises UserError for a request that could never run."""
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
        """Launches the next batch, and commits the oldest one when enough are in flight."""
        begin = time.perf_counter()
        outputs = [Output(id, [], Finish.ABORT) for id in self._aborted]
        self._aborted.clear()
        batch = self.scheduler.schedule()
        if batch is not None:
            self._pending.append(self.executor.launch(batch))
        if self._pending and (batch is None or len(self._pending) >= self.executor.depth):
            outputs += self._commit()
        self.stats.steps += batch is not None
        self.stats.busy_s += time.perf_counter() - begin
        return outputs

    def _commit(self) -> list[Output]:
        pending = self._pending.popleft()
        try:
            result = pending.result()
        except Exception as error:
            return self._fail(error)
        outputs = self.scheduler.commit(result)
        for output in outputs:
            self.stats.output_tokens += len(output.tokens)
            if output.finish:
                self.stats.cached_tokens += max(0, output.cached)
        return outputs

    def _fail(self, error: Exception) -> list[Output]:
        """A kernel raised: the requests of the launched steps end with an error, others go on."""
        log.error("step failed: %s: %s", type(error).__name__, error, exc_info=error)
        self._pending.clear()
        self.stats.failed_steps += 1
        first = (str(error).splitlines() or [""])[0]
        return self.scheduler.fail(f"the step failed: {type(error).__name__}: {first}")

    def check_invariants(self) -> None:
        """Asserts that pages, references and slots add up."""
        self.scheduler.check_invariants()

    def close(self) -> None:
        self.executor.close()
