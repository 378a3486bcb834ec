"""Which waiting request comes next. A policy is one method: the smaller key runs first."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from inferplane.cache.manager import KVCache

from .request import Request


class Policy(ABC):
    """changes: keys must be computed anew for every step. preempts: a waiting request may take the
    place of a running one with a larger `Request.priority`."""

    changes: ClassVar[bool] = False
    preempts: ClassVar[bool] = False

    @abstractmethod
    def key(self, request: Request, cache: KVCache) -> tuple[int, ...]: ...


class FirstCome(Policy):
    def key(self, request: Request, cache: KVCache) -> tuple[int, ...]:
        return (request.arrival,)


class LongestPrefix(Policy):
    """Most cached tokens first, so that a prefix is used while it is there."""

    changes = True

    def key(self, request: Request, cache: KVCache) -> tuple[int, ...]:
        return (-len(cache.match(request.tokens, request.namespace)), request.arrival)


class ShortestFirst(Policy):
    """Fewest tokens to compute and to generate."""

    def key(self, request: Request, cache: KVCache) -> tuple[int, ...]:
        made = len(request.tokens) - request.prompt_length
        return (len(request.tokens) + request.max_tokens - made, request.arrival)


class Priority(Policy):
    """Lowest `priority` first; equal ones as they came."""

    preempts = True

    def key(self, request: Request, cache: KVCache) -> tuple[int, ...]:
        return (request.priority, request.arrival)


POLICIES: dict[str, type[Policy]] = {
    "fcfs": FirstCome,
    "lpm": LongestPrefix,
    "sjf": ShortestFirst,
    "priority": Priority,
}
