"""The waiting requests, in the order of a policy."""

from __future__ import annotations

from bisect import insort

from inferplane.cache.manager import KVCache

from .policy import Policy
from .request import Request

_MOST_RESORTED = 256  # a changing order is kept for the head of the queue only


class Waiting:
    """A sorted list of (key, request). Requests without a place among running ones."""

    def __init__(self, policy: Policy, cache: KVCache) -> None:
        self.policy, self.cache = policy, cache
        self._sorted: list[tuple[tuple[int, ...], int, Request]] = []
        self._serial = 0

    def __len__(self) -> int:
        return len(self._sorted)

    def add(self, request: Request) -> None:
        self._serial += 1
        insort(self._sorted, (self.policy.key(request, self.cache), self._serial, request))

    def first(self) -> Request:
        return self._sorted[0][2]

    def pop(self) -> Request:
        return self._sorted.pop(0)[2]

    def remove(self, id: str) -> Request | None:
        for at, (_, _, request) in enumerate(self._sorted):
            if request.id == id:
                return self._sorted.pop(at)[2]
        return None

    def refresh(self) -> None:
        """Sorts anew where keys change with the cache."""
        if not self.policy.changes:
            return
        head, tail = self._sorted[:_MOST_RESORTED], self._sorted[_MOST_RESORTED:]
        head = [(self.policy.key(r, self.cache), serial, r) for _, serial, r in head]
        self._sorted = sorted(head) + tail
