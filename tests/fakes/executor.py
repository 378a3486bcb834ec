"""An executor whose next token is a function of all tokens before it.

So a request has one right answer, whatever its batch, its chunks, the cache or its preemptions. It
keeps a device's view (tokens, page tables, page contents), built from batches alone, and asserts
that what a row reads was written for just these tokens.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from inferplane.batch import Batch, StepResult
from inferplane.cache.manager import CacheGroup
from inferplane.scheduler.request import Request
from inferplane.spec import GroupKind

VOCAB = 6


def next_token(tokens: Sequence[int]) -> int:
    return zlib.crc32(bytes(tokens)) % VOCAB


def expected(request: Request, prompt: Sequence[int], longest: int) -> list[int]:
    """The tokens that a request must get, the stop token included."""
    tokens = list(prompt)
    for made in range(min(request.max_tokens, longest - len(prompt))):
        tokens.append(next_token(tokens))
        if tokens[-1] in request.stop_ids and made >= request.min_tokens:
            break
    return tokens[len(prompt) :]


class Written(list[tuple[int, Any]]):
    """(group, place) that a step wrote. reads: (group, place, content) that it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[tuple[int, Any, Any]] = []


class FakeExecutor:
    """yields: tokens that a sampling row gives, a step; the last number repeats."""

    def __init__(
        self, groups: Sequence[CacheGroup], slots: int, longest: int, yields: Sequence[int] = (1,)
    ) -> None:
        self.groups, self.yields = groups, list(yields)
        self.tokens = np.zeros((slots, longest + 8), np.int32)
        self.spaces: list[Any] = [None] * slots
        self.tables = [np.full((slots, longest + 1), -1, np.int32) for _ in groups]
        self.pages: list[dict[Any, Any]] = [{} for _ in groups]
        self.written = Written()  # by the last step
        self.most_tokens = 0

    def run(self, batch: Batch) -> StepResult:
        self.written = Written()
        for row in batch.new:
            self.tokens[row.slot, : len(row.tokens)] = row.tokens
            self.spaces[row.slot] = row.sampling
        for group, slots, columns, pages in batch.updates:
            self.tables[group][slots, columns] = pages
        for group, source, target in batch.copies:
            self.pages[group][target] = self.pages[group].get(source)
        self.most_tokens = max(self.most_tokens, batch.tokens)
        rows = list(zip(batch.slots.tolist(), batch.starts.tolist(), batch.counts, strict=True))
        assert len({slot for slot, _, _ in rows}) == len(rows), "a slot has two rows"
        assert (batch.counts[: batch.decodes] == 1).all()
        for slot, start, count in rows:
            self._write(slot, start, start + int(count))
        for slot, start, count in rows:
            self._check(slot, start, start + int(count))
            self._step_states(slot, start, start + int(count))
        return self._sample(batch)

    def spoil(self, written: Sequence[tuple[int, Any]]) -> None:
        """What a step wrote cannot be trusted: it raised."""
        for group, key in written:
            self.pages[group][key] = "garbage"

    def _content(self, slot: int, length: int) -> Any:
        return self.spaces[slot], tuple(self.tokens[slot, :length].tolist())

    def _paged(self) -> list[tuple[int, CacheGroup]]:
        kept = enumerate(self.groups)
        return [(i, group) for i, group in kept if group.kind is not GroupKind.STATE]

    def _write(self, slot: int, start: int, end: int) -> None:
        for group, spec in self._paged():
            for at in range(start, end):
                page = int(self.tables[group][slot, at // spec.page_size])
                assert page >= 0, "a token has no page"
                key = page, at % spec.page_size
                self.pages[group][key] = self._content(slot, at + 1)
                self.written.append((group, key))

    def still_there(self, written: Written) -> None:
        """A launched step reads until it is committed: nothing of that was overwritten."""
        for group, key, content in written.reads:
            assert self.pages[group][key] == content, f"page {key[0]} went while a step reads it"

    def _check(self, slot: int, start: int, end: int) -> None:
        """The first new token reads all that the others read, as far as it is old."""
        for group, spec in self._paged():
            first = max(0, start - spec.window + 1) if spec.window else 0
            for at in range(first, end):
                page = int(self.tables[group][slot, at // spec.page_size])
                key = page, at % spec.page_size
                found = self.pages[group].get(key)
                assert found == self._content(slot, at + 1), f"token {at} has a wrong page"
                self.written.reads.append((group, key, found))

    def _step_states(self, slot: int, start: int, end: int) -> None:
        for group, spec in enumerate(self.groups):
            if spec.kind is GroupKind.STATE:
                page = int(self.tables[group][slot, 0])
                if start:
                    assert self.pages[group].get(page) == self._content(slot, start)
                self.pages[group][page] = self._content(slot, end)

    def _sample(self, batch: Batch) -> StepResult:
        count = self.yields.pop(0) if len(self.yields) > 1 else self.yields[0]
        tokens: list[int] = []
        for slot, length in zip(
            batch.slots[batch.sample], (batch.starts + batch.counts)[batch.sample], strict=True
        ):
            for at in range(length, length + count):
                self.tokens[slot, at] = next_token(self.tokens[slot, :at].tolist())
                tokens.append(int(self.tokens[slot, at]))
        return StepResult(
            tokens=np.array(tokens, np.int32), counts=batch.sample.astype(np.int32) * count
        )


class Loop:
    """Schedules, launches and commits as the engine does, and collects what each request got."""

    def __init__(self, scheduler: Any, executor: FakeExecutor, depth: int = 1) -> None:
        self.scheduler, self.executor, self.depth = scheduler, executor, depth
        self.pending: list[tuple[StepResult, Written]] = []
        self.tokens: dict[str, list[int]] = {}
        self.finished: dict[str, Any] = {}
        self.order: list[str] = []  # ids as they ended

    def step(self) -> None:
        batch = self.scheduler.schedule()
        if batch is not None:
            self.pending.append((self.executor.run(batch), self.executor.written))
        assert self.pending or not self.scheduler.unfinished, "nothing can run: a deadlock"
        if self.pending and (batch is None or len(self.pending) >= self.depth):
            result, written = self.pending.pop(0)
            self.executor.still_there(written)
            self.take(self.scheduler.commit(result))

    def fail(self) -> None:
        """The launched steps raise."""
        for _, written in self.pending:
            self.executor.spoil(written)
        self.pending.clear()
        self.take(self.scheduler.fail("out of order"))

    def retreat(self, message: str = "too large") -> None:
        """The oldest launched step does not fit into memory."""
        for _, written in self.pending:
            self.executor.spoil(written)
        self.pending.clear()
        self.take(self.scheduler.retreat(message))

    def take(self, outputs: Sequence[Any]) -> None:
        for output in outputs:
            assert output.id not in self.finished, "an output after the end"
            self.tokens.setdefault(output.id, []).extend(output.tokens)
            if output.finish:
                self.finished[output.id] = output
                self.order.append(output.id)

    def drain(self, most: int = 5000) -> None:
        while self.scheduler.unfinished or self.pending:
            self.step()
            self.scheduler.check_invariants()
            most -= 1
            assert most, "it does not end"
