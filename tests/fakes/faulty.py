"""An engine over an executor that raises when told to: no model, no device."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from inferplane.batch import Batch
from inferplane.cache.manager import CacheGroup
from inferplane.engine.engine import Engine
from inferplane.executor.base import Done, Executor, Pending
from inferplane.scheduler.request import Output, Request
from inferplane.spec import Fault, GroupKind

from .executor import FakeExecutor

GROUP = CacheGroup(kind=GroupKind.FULL, page_size=4, pages=40)
SLOTS, LONGEST = 4, 60


class Broken(RuntimeError):
    """An error of the device, of a kind."""

    def __init__(self, fault: Fault, message: str = "it broke\nsecond line") -> None:
        super().__init__(message)
        self.fault = fault


class FaultyExecutor(Executor):
    """Computes with `FakeExecutor`.

    faults: launch, counted from 1 -> what it raises. fits: whether a batch fits into memory.
    settling: what `settle` raises, one after the other. settled: how often it was called.
    """

    def __init__(self, depth: int = 1) -> None:
        self.inner = FakeExecutor([GROUP], SLOTS, LONGEST)
        self.depth = depth
        self.faults: dict[int, Exception] = {}
        self.fits: Callable[[Batch], bool] = lambda batch: True
        self.wrong: dict[int, dict[int, str]] = {}  # launch -> `StepResult.errors`
        self.settling: list[Exception] = []
        self.launched = self.settled = 0
        self.tokens: list[int] = []  # of each launch
        self.broken = False  # what is launched behind an error may read garbage

    def launch(self, batch: Batch) -> Pending:
        self.launched += 1
        self.tokens.append(batch.tokens)
        error = self.faults.get(self.launched)
        if error is None and not self.fits(batch):
            error = Broken(Fault.MEMORY)
        try:
            result = self.inner.run(batch)
        except AssertionError:
            assert self.broken, "a wrong page"
            error = error or Broken(Fault.KERNEL, "behind an error")
        if error is not None:
            self.broken = True
            self.inner.spoil(self.inner.written)
            return Done(None, error)
        result.errors = self.wrong.get(self.launched, {})
        return Done(result)

    def fault(self, error: BaseException) -> Fault:
        if isinstance(error, Broken):
            return error.fault
        raise ValueError("this platform knows no other errors")

    def settle(self) -> None:
        self.settled += 1
        self.broken = False
        if self.settling:
            raise self.settling.pop(0)

    def memory(self) -> str:
        return "0.10 of 4.00 GiB are free"


def make_engine(executor: Executor) -> Engine:
    effective = {
        "max_num_seqs": SLOTS,
        "max_model_len": LONGEST,
        "enable_prefix_caching": True,
        "policy": "fcfs",
        "max_num_batched_tokens": 32,
    }
    plan: Any = SimpleNamespace(
        effective=effective, groups=[GROUP], budget=SimpleNamespace(pages=[GROUP.pages])
    )
    return Engine(plan, executor)


def request(id: str, prompt: list[int] | None = None, **changes: Any) -> Request:
    tokens = np.array(prompt or [len(id), 1, 2, 3, 4, 5])
    return Request(**({"id": id, "tokens": tokens, "max_tokens": 6} | changes))


def run(engine: Engine, most: int = 1000) -> dict[str, Output]:
    """Steps until all is done; each request's last output, with all of its tokens."""
    found: dict[str, Output] = {}
    tokens: dict[str, list[int]] = {}
    while engine.unfinished:
        for output in engine.step():
            tokens.setdefault(output.id, []).extend(output.tokens)
            assert output.id not in found, "an output after the end"
            if output.finish:
                output.tokens = tokens[output.id]
                found[output.id] = output
        engine.check_invariants()
        most -= 1
        assert most, "it does not end"
    pools = engine.cache.pools
    assert all(pool.available == pool.size for pool in pools), "pages are neither free nor cached"
    return found
