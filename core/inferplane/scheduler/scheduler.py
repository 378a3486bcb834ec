"""The scheduler: `schedule` makes a batch of integers, `commit` takes its result.

Several batches may be launched before the first is committed; with one at a time this is plain
synchronous stepping. Admission cannot deadlock: a request that could never fit is refused when it
is added, a running one can always get pages by preempting those admitted after it, and with nothing
running all pages are free or can be evicted.
"""

from __future__ import annotations

import numpy as np

from inferplane.batch import Batch, StepResult, TokenLogprobs
from inferplane.cache.manager import KVCache
from inferplane.cache.node import Node
from inferplane.errors import UserError

from .pace import Pace
from .policy import Policy
from .request import Finish, Output, Request
from .running import Running
from .slots import STOP_COLUMNS, Slots
from .waiting import Waiting

_ROOM_TOKENS = 512  # how far ahead of a request's end free pages are kept consecutive


class Scheduler:
    """budget: most tokens a step. max_length: most tokens of a request."""

    def __init__(
        self, cache: KVCache, policy: Policy, *, max_seqs: int, budget: int, max_length: int
    ) -> None:
        if budget < max_seqs:
            raise UserError(
                f"max_num_batched_tokens is {budget}; it must be at least max_num_seqs ({max_seqs})"
            )
        self.cache, self.policy, self.max_length = cache, policy, max_length
        self.pace = Pace(budget)
        self.slots = Slots(max_seqs, max_length)
        self.waiting = Waiting(policy, cache)
        self.running = Running(cache, self.slots, self.waiting, self.pace)
        self.launched: list[tuple[Batch, list[Node]]] = []  # with what each put into the tree
        self._starved = False
        self._step = 0
        self._arrivals = 0

    # requests in and out

    def add(self, request: Request) -> None:
        """Raises UserError for a request that could never run."""
        most = min(self.max_length, self.cache.capacity)
        if not 0 < request.prompt_length < most:
            raise UserError(
                f"the prompt has {request.prompt_length} tokens; it must have 1 to {most - 1} "
                f"(the limit is {most} tokens, prompt and output together)"
            )
        if len(request.stop_ids) > STOP_COLUMNS:
            raise UserError(f"{len(request.stop_ids)} stop token ids; {STOP_COLUMNS} at most")
        if request.max_tokens < 1:
            raise UserError(f"max_tokens is {request.max_tokens}; it must be at least 1")
        request.max_tokens = min(request.max_tokens, most - request.prompt_length)
        request.arrival = self._arrivals
        self._arrivals += 1
        self.waiting.add(request)

    def abort(self, id: str) -> bool:
        """Ends a request wherever it is. False if it is not here (any more)."""
        if self.waiting.remove(id) is not None:
            return True
        for slot in self.slots.order:
            request = self.slots.requests[slot]
            if request is not None and request.id == id:
                self.running.leave(slot)
                return True
        return False

    @property
    def unfinished(self) -> int:
        return len(self.waiting) + len(self.slots.order)

    @property
    def preemptions(self) -> int:
        return self.running.preemptions

    # one step

    def schedule(self) -> Batch | None:
        """The next batch, or None where nothing can run now."""
        resting = self._make_way()
        decodes = self._decodes(resting)
        left = self.pace.tokens - len(decodes)
        busy = resting | set(decodes.tolist())
        chunks = self._chunks(busy, left) if len(self.slots.order) > len(busy) else []
        left -= sum(count for _, count in chunks)
        if not self._starved:
            chunks += self._admit(left)
        return self._batch(decodes, chunks)

    def _make_way(self) -> set[int]:
        """Under a policy that preempts: makes place for the first waiting request, before running
        ones are given work. Gives slots that rest until their steps in flight are committed."""
        while self.policy.preempts and len(self.waiting):
            request = self.waiting.first()
            if self.running.place(request) is not None:
                break
            worst = max(self.slots.order, key=self._urgency, default=None)
            if worst is None or self._urgency(worst)[0] <= request.priority:
                break
            if self.slots.inflight[worst]:
                return {worst}
            self.running.preempt(worst)
        return set()

    def _decodes(self, resting: set[int]) -> np.ndarray:
        """Slots with exactly one token to compute, with pages for it. Preempts if pages run out."""
        slots, self._starved = self.slots, False
        while True:
            order = np.array(slots.order, dtype=np.int32)
            order = order[~np.isin(order, list(resting))] if resting else order
            todo = np.minimum(slots.planned[order], slots.limit[order] - 1) - slots.scheduled[order]
            rows = order[todo == 1]
            if not len(rows) or self.cache.grow(rows, slots.scheduled[rows] + 1):
                return rows
            self._starved = True
            if not self._preempt_last(set()):
                return rows[:0]

    def _chunks(self, busy: set[int], left: int) -> list[tuple[int, int]]:
        """(slot, tokens) of running prompts, in order of admission."""
        chunks: list[tuple[int, int]] = []
        for slot in list(self.slots.order):
            todo = self._todo(slot)
            if slot in busy or todo < 1 or left < 1 or not self.slots.alive[slot]:
                continue
            count = self.running.cut(slot, min(todo, left))
            keep = busy | {s for s, _ in chunks} | {slot}
            while not self._reserve(slot, count):
                self._starved = True
                if not self._preempt_last(keep):
                    return chunks
            chunks.append((slot, count))
            left -= count
        return chunks

    def _todo(self, slot: int) -> int:
        slots = self.slots
        return int(min(slots.planned[slot], slots.limit[slot] - 1) - slots.scheduled[slot])

    def _reserve(self, slot: int, count: int) -> bool:
        """Pages for `count` more tokens of a slot, and its full prompt pages into the tree."""
        slots, length = self.slots, int(self.slots.scheduled[slot]) + count
        self.cache.save_states(slot, int(slots.scheduled[slot]))
        room = min(int(slots.limit[slot]) - length, _ROOM_TOKENS)
        if not self.cache.extend(slot, length, room):
            return False
        request = slots.requests[slot]
        assert request is not None
        known = min(length, int(slots.known[slot]))  # what a launched step yields is not known yet
        last = known + self.cache.tree.page > slots.known[slot]  # what follows fills no page
        self.cache.store(slot, slots.tokens[slot, :known], -request.priority, last)
        return True

    def _admit(self, left: int) -> list[tuple[int, int]]:
        """Takes waiting requests while there are slots, pages and budget."""
        chunks: list[tuple[int, int]] = []
        if len(self.waiting) and left > 0:
            self.waiting.refresh()
        while len(self.waiting) and left > 0:
            request = self.waiting.first()
            path = self.running.place(request)
            if path is None:
                break
            self.waiting.pop()
            slot = self.running.take(request, path)
            count = self.running.cut(slot, min(self._todo(slot), left))
            if not self._reserve(slot, count):
                self.running.preempt(slot)
                break
            chunks.append((slot, count))
            left -= count
        return chunks

    def _batch(self, decodes: np.ndarray, chunks: list[tuple[int, int]]) -> Batch | None:
        slots = self.slots
        if not len(decodes) and not chunks:
            self.running.new.clear()
            return None
        chunks.sort(key=lambda chunk: chunk[1] != 1)
        ids = np.concatenate([decodes, np.array([s for s, _ in chunks], dtype=np.int32)])
        counts = np.ones(len(ids), dtype=np.int32)
        counts[len(decodes) :] = [count for _, count in chunks]
        starts = slots.scheduled[ids]
        ends = starts + counts
        sample = ends == slots.planned[ids]
        slots.scheduled[ids] = ends
        slots.planned[ids] += sample
        slots.inflight[ids] += 1
        self._step += 1
        batch = Batch(
            step=self._step,
            new=self.running.new,
            slots=ids,
            starts=starts,
            counts=counts,
            sample=sample,
            decodes=int(np.count_nonzero(counts == 1)),
            updates=self.cache.updates,
            copies=self.cache.copies,
        )
        self.running.new, self.cache.updates, self.cache.copies = [], [], []
        self.launched.append((batch, self.cache.stored))
        self.cache.stored = []
        return batch

    # preemption

    def _preempt_last(self, keep: set[int]) -> bool:
        """Preempts the running request that would run last, other than those to keep. With steps
        in flight, nothing is freed yet: the caller stops, and tries again after a commit."""
        order = [s for s in self.slots.order if s not in keep and not self.slots.inflight[s]]
        if len(self.slots.order) < 2 or not order:
            return False
        self.running.preempt(max(order, key=self._urgency) if self.policy.preempts else order[-1])
        return True

    def _urgency(self, slot: int) -> tuple[int, int]:
        request = self.slots.requests[slot]
        assert request is not None
        return request.priority, request.arrival

    # results

    def commit(self, result: StepResult) -> list[Output]:
        """Takes the result of the oldest launched batch: appends tokens, ends what is done."""
        batch, stored = self.launched.pop(0)
        slots, ids = self.slots, batch.slots
        slots.inflight[ids] -= 1
        wrong = self._end_rows(batch, stored, result.errors) if result.errors else []
        live = slots.alive[ids]
        slots.computed[ids[live]] += batch.counts[live]
        outputs = wrong + self._append(batch, result, live)
        self._replan(batch, result, live)
        self.cache.trim(ids, slots.computed[ids])
        self.running.reclaim()
        if self.pace.tried:
            self.pace.passed(batch.tokens)
        return outputs

    def _append(self, batch: Batch, result: StepResult, live: np.ndarray) -> list[Output]:
        """Appends 0..k tokens a row; stops a row at its first end."""
        slots, ids = self.slots, batch.slots
        outputs: dict[int, Output] = {}
        first = np.cumsum(result.counts) - result.counts
        for row, found in result.prompt_logprobs.items():
            if live[row]:
                self._report_prompt(self._output(outputs, row, ids), batch, row, found)
        rows = np.flatnonzero(live & (result.counts > 0))
        at = 0
        while len(rows):
            group = ids[rows]
            tokens = result.tokens[first[rows] + at]
            known = slots.known[group]
            slots.tokens[group, known] = tokens
            slots.known[group] = known + 1
            stopped = (slots.stops[group] == tokens[:, None]).any(1) & (
                known >= slots.minimum[group]
            )
            ended = stopped | (known + 1 >= slots.limit[group])
            done = np.where(stopped, 1, 2) * ended
            for row, token, how in zip(rows.tolist(), tokens.tolist(), done.tolist(), strict=True):
                output = self._output(outputs, row, ids)
                output.tokens.append(token)
                if at == 0 and row in result.logprobs:
                    output.logprobs.append(result.logprobs[row])
                if how:
                    output.finish = Finish.STOP if how == 1 else Finish.LENGTH
            for slot in group[ended].tolist():
                self.running.leave(slot)
            at += 1
            rows = rows[~ended & (result.counts[rows] > at)]
        return list(outputs.values())

    def _replan(self, batch: Batch, result: StepResult, live: np.ndarray) -> None:
        """A row gave more or fewer tokens than the one that was planned for. With no token, its
        last one is computed again. Needs rows with one step in flight."""
        extra = np.where(live, result.counts - batch.sample, 0)
        if not extra.any():
            return
        ids = batch.slots[extra != 0]
        assert (self.slots.inflight[ids] == 0).all(), "k tokens a row need one step at a time"
        self.slots.planned[ids] += extra[extra != 0]
        again = batch.slots[extra < 0]
        self.slots.scheduled[again] -= 1
        self.slots.computed[again] -= 1

    def _report_prompt(
        self, output: Output, batch: Batch, row: int, found: list[TokenLogprobs]
    ) -> None:
        """After a preemption, prompt tokens are computed again: report each only once."""
        request = self.slots.requests[batch.slots[row]]
        assert request is not None
        start = int(batch.starts[row])
        output.prompt_logprobs = found[max(0, request.prompt_reported - start) :]
        request.prompt_reported = max(request.prompt_reported, start + len(found))

    def _output(self, outputs: dict[int, Output], row: int, ids: np.ndarray) -> Output:
        if row not in outputs:
            request = self.slots.requests[ids[row]]
            assert request is not None
            outputs[row] = Output(request.id, [], cached=request.cached)
        return outputs[row]

    # steps that failed

    def _end_rows(self, batch: Batch, stored: list[Node], errors: dict[int, str]) -> list[Output]:
        """Ends the requests of some rows with an error. What the step put into the tree may be
        theirs, so none of it stays."""
        self.cache.forget(stored)
        ended = [(int(batch.slots[row]), error) for row, error in errors.items()]
        return [self.running.end(slot, error) for slot, error in ended if self.slots.alive[slot]]

    def _undo(self) -> list[int]:
        """Takes back all launched steps. Gives their live slots, in order of admission."""
        slots, touched = self.slots, set()
        for batch, stored in self.launched:
            self.cache.forget(stored)
            slots.inflight[batch.slots] -= 1
            touched.update(batch.slots.tolist())
            # what a new row found in the tree may be what was just forgotten
            slots.computed[[row.slot for row in batch.new]] = 0
        self.launched.clear()
        self.running.reclaim()
        return [slot for slot in slots.order if slot in touched]

    def fail(self, message: str, steps: int = 1) -> list[Output]:
        """The oldest launched steps failed: their requests end with an error. Those of later ones
        run again, since they may have read what these should have written."""
        failed = {slot for batch, _ in self.launched[:steps] for slot in batch.slots.tolist()}
        outputs = []
        for slot in self._undo():
            if slot in failed:
                self.slots.computed[slot] = 0  # nothing of it goes into the tree
                outputs.append(self.running.end(slot, message))
            else:
                self.running.preempt(slot)
        return outputs

    def retreat(self, reason: str) -> list[Output]:
        """The oldest launched step did not fit into memory: its requests run again, in smaller
        steps. One that was tried too often ends with an error."""
        batch = self.launched[0][0]
        tried = set(batch.slots.tolist())
        self.pace.shrink(batch.tokens)
        outputs = []
        for slot in self._undo():
            request = self.slots.requests[slot]
            assert request is not None
            known = int(self.slots.known[slot])
            if slot in tried and (tries := request.hopeless(known, batch.tokens == 1)):
                size = f"a step of {len(tried)} requests and {batch.tokens} tokens"
                told = f"out of memory: {tries} tries gave no token, the last one in {size}{reason}"
                outputs.append(self.running.end(slot, told))
            else:
                self.running.preempt(slot)
        for slot in self.slots.order[self.pace.tokens :]:
            self.running.preempt(slot)
        return outputs

    def rewind(self) -> None:
        """Takes back all launched steps; their requests run again."""
        for slot in self._undo():
            self.running.preempt(slot)

    def end(self, message: str) -> list[Output]:
        """Ends everything with an error: there is no device any more."""
        self._undo()
        outputs = [self.running.end(slot, message) for slot in list(self.slots.order)]
        while len(self.waiting):
            request = self.waiting.pop()
            outputs.append(Output(request.id, [], Finish.ERROR, error=message))
        return outputs

    def check_invariants(self) -> None:
        """Asserts that pages, references and slots add up. Callable between any two steps."""
        self.cache.check()
        slots = self.slots
        busy = [s for s in range(slots.size) if slots.requests[s] is not None]
        assert slots.free + len(busy) == slots.size
        assert sorted(slots.order) == [s for s in busy if slots.alive[s]]
        assert sorted(self.running.leaving) == [s for s in busy if not slots.alive[s]]
        assert (slots.scheduled[slots.order] <= slots.planned[slots.order]).all()
        for batch, _ in self.launched:
            self.cache.check_reads(batch.slots, batch.starts, batch.starts + batch.counts)
        if not busy:
            pools = self.cache.pools
            assert all(pool.available == pool.size for pool in pools), "an idle cache holds pages"
