"""Running requests as rows of integer arrays, so that a step needs no loop over objects.

Counts are in tokens of the whole sequence, prompt included:
  known      committed: prompt and accepted tokens
  planned    known, and those that launched steps will yield
  scheduled  computed by a launched step (their keys and values are, or will be, in the cache)
  limit      length at which the request ends
So `planned - scheduled` is what a slot may compute next.
"""

from __future__ import annotations

import numpy as np

from .request import Request

STOP_COLUMNS = 16


class Slots:
    """requests[slot] is None for a free slot. inflight: launched steps that are not committed."""

    def __init__(self, size: int, max_length: int) -> None:
        self.size = size
        self.requests: list[Request | None] = [None] * size
        self.tokens = np.zeros((size, max_length), dtype=np.int32)
        self.known = np.zeros(size, dtype=np.int32)
        self.planned = np.zeros(size, dtype=np.int32)
        self.scheduled = np.zeros(size, dtype=np.int32)
        self.computed = np.zeros(size, dtype=np.int32)
        self.prompt = np.zeros(size, dtype=np.int32)
        self.limit = np.zeros(size, dtype=np.int32)
        self.minimum = np.zeros(size, dtype=np.int32)
        self.stops = np.full((size, STOP_COLUMNS), -1, dtype=np.int32)
        self.inflight = np.zeros(size, dtype=np.int32)
        self.alive = np.zeros(size, dtype=bool)
        self.order: list[int] = []  # live slots, first admitted first
        self._free = list(range(size - 1, -1, -1))

    @property
    def free(self) -> int:
        return len(self._free)

    def take(self, request: Request, cached: int) -> int:
        """Gives a request a slot, with `cached` tokens computed already."""
        slot = self._free.pop()
        length = len(request.tokens)
        self.requests[slot] = request
        request.slot = slot
        self.tokens[slot, :length] = request.tokens
        self.known[slot] = self.planned[slot] = length
        self.scheduled[slot] = self.computed[slot] = cached
        self.prompt[slot] = request.prompt_length
        self.limit[slot] = request.prompt_length + request.max_tokens
        self.minimum[slot] = request.prompt_length + request.min_tokens
        self.stops[slot] = -1
        self.stops[slot, : len(request.stop_ids)] = request.stop_ids
        self.alive[slot] = True
        self.order.append(slot)
        return slot

    def leave(self, slot: int) -> None:
        """The request no longer runs. The slot is free when no launched step uses it: `reclaim`."""
        self.alive[slot] = False
        self.order.remove(slot)

    def reclaim(self, slot: int) -> None:
        assert not self.alive[slot] and self.inflight[slot] == 0
        self.requests[slot] = None
        self._free.append(slot)
