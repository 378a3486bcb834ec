"""In what order the tree gives up pages of a group that can do without some of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .node import Node

_KEPT_BIT, _PRIORITY_BIT, _MOST_PRIORITY = 40, 41, 1 << 20


class Thinned:
    """owners [pages]: the node that holds a cached page. Those with the smallest rank go first: it
    is made of the node's priority, of whether a request is likely to resume there, and of the time.
    Where a resumption is unlikely, a page of depth d counts as d ticks older, since beginnings of
    texts are shared more often than what follows them."""

    def __init__(self, size: int) -> None:
        self.owners = np.full(size, None, dtype=object)
        self._ranks = np.zeros(size, dtype=np.int64)

    def add(
        self, nodes: Sequence[Node], rows: np.ndarray, kept: np.ndarray, priority: int, now: int
    ) -> None:
        """nodes: a path. rows int32 [nodes, pages a node]; kept bool [nodes]: which of the nodes
        hold theirs."""
        pages = rows[kept]
        owners = np.empty(len(nodes), dtype=object)
        owners[:] = nodes
        self.owners[pages] = owners[kept, None]
        depths = nodes[0].depth + np.flatnonzero(kept)
        self._ranks[pages] = (_rank(priority) + now - depths)[:, None]

    def keep(self, pages: np.ndarray, priority: int, now: int) -> None:
        """A request is likely to resume where it reads these pages."""
        self._ranks[pages] = _rank(priority) + (1 << _KEPT_BIT) + now

    def first(self, idle: np.ndarray, count: int) -> np.ndarray:
        """The `count` pages of `idle` that go first, or all."""
        if count >= len(idle):
            return idle
        if count <= 0:
            return idle[:0]
        return idle[np.argpartition(self._ranks[idle], count - 1)[:count]]


def _rank(priority: int) -> int:
    return max(-_MOST_PRIORITY, min(priority, _MOST_PRIORITY)) << _PRIORITY_BIT
