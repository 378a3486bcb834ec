"""A KV cache whose pages remember what was written to them.

`Memory` stands for the device: every position holds the namespace and all tokens up to it, so that
a page that is reused for other tokens, or is read before it was written, is seen at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from inferplane.cache.manager import CacheGroup, KVCache
from inferplane.spec import GroupKind

FULL = (CacheGroup(kind=GroupKind.FULL, page_size=4, pages=12),)
MIXED = (
    CacheGroup(kind=GroupKind.FULL, page_size=2, pages=24),
    CacheGroup(kind=GroupKind.WINDOW, page_size=4, pages=10, window=5),
    CacheGroup(kind=GroupKind.STATE, page_size=1, pages=4),
)
WIDE_WINDOW = (
    CacheGroup(kind=GroupKind.WINDOW, page_size=2, pages=14, window=9),
    CacheGroup(kind=GroupKind.FULL, page_size=4, pages=11),
)
TINY_WINDOW = (  # the pool holds one window, and a page more
    CacheGroup(kind=GroupKind.WINDOW, page_size=2, pages=5, window=6),
    CacheGroup(kind=GroupKind.FULL, page_size=4, pages=9),
)
TWO_WINDOWS = (
    CacheGroup(kind=GroupKind.FULL, page_size=2, pages=20),
    CacheGroup(kind=GroupKind.WINDOW, page_size=4, pages=4, window=5),
    CacheGroup(kind=GroupKind.WINDOW, page_size=1, pages=9, window=3),
)
ONLY_WINDOWS = (CacheGroup(kind=GroupKind.WINDOW, page_size=4, pages=4, window=7),)
WINDOW_OF_ONE = (
    CacheGroup(kind=GroupKind.FULL, page_size=4, pages=9),
    CacheGroup(kind=GroupKind.WINDOW, page_size=2, pages=2, window=1),
)
NO_WHOLE_WINDOW = (  # a request is as long as the pool then
    CacheGroup(kind=GroupKind.WINDOW, page_size=4, pages=7, window=64),
    CacheGroup(kind=GroupKind.FULL, page_size=2, pages=40),
)
GROUPS = {
    "full": FULL,
    "full, window and state": MIXED,
    "window and full": WIDE_WINDOW,
    "tiny window": TINY_WINDOW,
    "two windows": TWO_WINDOWS,
    "only windows": ONLY_WINDOWS,
    "window of one": WINDOW_OF_ONE,
    "no whole window": NO_WHOLE_WINDOW,
}


def tokens(values: Sequence[int]) -> np.ndarray:
    return np.array(values, dtype=np.int32)


@dataclass
class Row:
    """A running request. done: tokens whose keys and values are in the cache."""

    namespace: str
    tokens: list[int]
    done: int = 0
    end: int = 0  # after the step that is being made
    reserved: bool = False
    new: bool = True  # opened since the last step


class Memory:
    """What lies in every page of every group."""

    def __init__(self, cache: KVCache) -> None:
        self.cache = cache
        self.pages: list[dict[Any, Any]] = [{} for _ in cache.groups]

    def copy(self) -> None:
        """Carries out the copies that the cache asked for."""
        for group, source, target in self.cache.copies:
            self.pages[group][target] = self.pages[group].get(source)
        self.cache.copies = []

    def write(self, slot: int, row: Row, what: str = "") -> None:
        """Writes row.done to row.end. what: instead of the right content."""
        for group, spec in enumerate(self.cache.groups):
            if spec.kind is GroupKind.STATE:
                continue
            for at in range(row.done, row.end):
                page = int(self.cache.tables[group][slot, at // spec.page_size])
                assert page >= 0, "a token has no page to be written to"
                content = what or (row.namespace, tuple(row.tokens[: at + 1]))
                self.pages[group][page, at % spec.page_size] = content

    def check(self, slot: int, row: Row) -> None:
        """Asserts that the tokens which the next one reads are there and are right."""
        for group, spec in enumerate(self.cache.groups):
            if spec.kind is GroupKind.STATE:
                continue
            first = max(0, row.done - spec.window + 1) if spec.window else 0
            for at in range(first, row.done):
                page = int(self.cache.tables[group][slot, at // spec.page_size])
                found = self.pages[group].get((page, at % spec.page_size))
                wanted = (row.namespace, tuple(row.tokens[: at + 1]))
                assert found == wanted, f"group {group}, token {at}: {found}, not {wanted}"

    def step_states(self, slot: int, row: Row) -> None:
        """Asserts that running states are right before the step, and moves them on."""
        for group, spec in enumerate(self.cache.groups):
            if spec.kind is not GroupKind.STATE:
                continue
            page = int(self.cache.tables[group][slot, 0])
            if row.done:
                wanted = (row.namespace, tuple(row.tokens[: row.done]))
                assert self.pages[group].get(page) == wanted, "a wrong state is resumed"
            self.pages[group][page] = (row.namespace, tuple(row.tokens[: row.end]))
