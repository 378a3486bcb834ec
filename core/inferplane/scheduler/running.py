"""The running requests: taking a place, losing it again, and leaving."""

from __future__ import annotations

from inferplane.batch import NewRow
from inferplane.cache.manager import KVCache
from inferplane.cache.node import Node

from .pace import Pace
from .request import Finish, Output, Request
from .slots import Slots
from .waiting import Waiting


class Running:
    """new: rows that the next batch tells the runner of. leaving: slots whose request has ended,
    while launched steps still use its pages. preemptions: so far."""

    def __init__(self, cache: KVCache, slots: Slots, waiting: Waiting, pace: Pace) -> None:
        self.cache, self.slots, self.waiting, self.pace = cache, slots, waiting, pace
        self.new: list[NewRow] = []
        self.leaving: list[int] = []
        self.preemptions = 0

    def place(self, request: Request) -> list[Node] | None:
        """The cached path to run behind; None where there is no slot, or too few pages."""
        running = len(self.slots.order)
        if not self.slots.free or running >= self.pace.tokens:
            return None
        path = [] if request.wants_prompt else self.cache.match(request.tokens, request.namespace)
        spare = running  # a page each, so that decoding goes on for a while
        return path if self.cache.fits(path, len(request.tokens) + 1, spare) else None

    def take(self, request: Request, path: list[Node]) -> int:
        """Gives a request a slot behind its cached path."""
        cached = len(path) * self.cache.tree.page
        slot = self.slots.take(request, cached)
        self.cache.open(slot, path, request.namespace, -request.priority)
        if request.cached < 0:
            request.cached = cached
        row = NewRow(
            slot=slot,
            tokens=request.tokens,
            prompt_length=request.prompt_length,
            sampling=request.sampling,
            wants_prompt=request.wants_prompt,
            stop_ids=request.stop_ids,
        )
        self.new.append(row)
        return slot

    def cut(self, slot: int, count: int) -> int:
        """Of `count` new tokens those that window groups have pages for, and one at least. A page
        is left for each other row: what lies behind a window comes back with every commit."""
        room = self.cache.reach(slot, len(self.slots.order) - 1) - int(self.slots.scheduled[slot])
        return max(1, min(count, room))

    def preempt(self, slot: int) -> None:
        """Back to the queue. What was computed stays in the tree while there is space, so that
        recomputing may find it."""
        slots = self.slots
        request = slots.requests[slot]
        assert request is not None and slots.inflight[slot] == 0
        request.tokens = slots.tokens[slot, : slots.known[slot]].copy()
        request.slot = -1
        request.preemptions += 1
        self.preemptions += 1
        self.new = [row for row in self.new if row.slot != slot]
        self._store_computed(slot)
        slots.leave(slot)
        self.cache.close(slot)
        slots.reclaim(slot)
        self.waiting.add(request)

    def leave(self, slot: int) -> None:
        """Ends a running request; its pages go when no launched step uses them."""
        self._store_computed(slot)
        self.slots.leave(slot)
        self.new = [row for row in self.new if row.slot != slot]
        self.leaving.append(slot)
        self.reclaim()

    def end(self, slot: int, error: str) -> Output:
        """`leave` with an error, as the request's last output."""
        request = self.slots.requests[slot]
        assert request is not None
        self.leave(slot)
        return Output(request.id, [], Finish.ERROR, error=error)

    def reclaim(self) -> None:
        """Frees the slots and pages that launched steps no longer use."""
        for slot in [s for s in self.leaving if self.slots.inflight[s] == 0]:
            self.leaving.remove(slot)
            self.cache.close(slot)
            self.slots.reclaim(slot)

    def _store_computed(self, slot: int) -> None:
        slots, request = self.slots, self.slots.requests[slot]
        assert request is not None
        computed = min(int(slots.computed[slot]), int(slots.known[slot]))
        self.cache.store(slot, slots.tokens[slot, :computed], -request.priority)
