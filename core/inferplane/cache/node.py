"""A node of the prefix tree: one tree page of tokens, and the cache pages that hold them."""

from __future__ import annotations

import numpy as np


class Node:
    """pages: for each group its pages, or None where they are gone (outside a window, or a state
    that was never saved). used: time of last use. priority: the larger is kept longer."""

    __slots__ = ("alive", "children", "depth", "key", "pages", "parent", "priority", "used")

    def __init__(self, key: bytes, parent: Node | None, groups: int) -> None:
        self.key = key
        self.parent = parent
        self.depth: int = parent.depth + 1 if parent else 0
        self.children: dict[bytes, Node] = {}
        self.pages: list[np.ndarray | None] = [None] * groups
        self.used = 0
        self.priority = 0
        self.alive = True

    @property
    def empty(self) -> bool:
        """Whether it holds no page of any group."""
        return all(pages is None for pages in self.pages)
