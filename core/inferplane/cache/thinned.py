"""In what order the tree gives up pages of a group that can do without some of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .node import Node

_MOST_PRIORITY, _TIME_BITS = 1 << 20, 40


class Thinned:
    """owners [pages]: the node that holds a cached page. The rank of a page is its priority, then
    when it was last kept for a resumption, 0 for never; the smallest goes first."""

    def __init__(self, size: int) -> None:
        self.owners = np.full(size, None, dtype=object)
        self._ranks = np.zeros(size, dtype=np.int64)

    def add(self, nodes: Sequence[Node], rows: np.ndarray, kept: np.ndarray, priority: int) -> None:
        """rows int32 [nodes, pages a node]; kept bool [nodes]: which of the nodes hold theirs."""
        pages = rows[kept]
        owners = np.empty(len(nodes), dtype=object)
        owners[:] = nodes
        self.owners[pages] = owners[kept, None]
        self._ranks[pages] = _rank(priority)

    def keep(self, pages: np.ndarray, priority: int, now: int) -> None:
        self._ranks[pages] = _rank(priority) + now

    def first(self, idle: np.ndarray, count: int) -> np.ndarray:
        """The `count` pages of `idle` that go first, or all."""
        if count >= len(idle):
            return idle
        if count <= 0:
            return idle[:0]
        return idle[np.argpartition(self._ranks[idle], count - 1)[:count]]


def _rank(priority: int) -> int:
    return max(-_MOST_PRIORITY, min(priority, _MOST_PRIORITY)) << _TIME_BITS
