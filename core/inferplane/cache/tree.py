"""The prefix tree: which pages hold the keys and values of which tokens, after which tokens.

One node is one page of tokens, so sharing is page-granular, and a look-up is one dictionary step a
page. Namespaces (a LoRA adapter, a tenant's salt) have roots of their own. The tree decides what to
keep; the pools own the pages.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from itertools import count

import numpy as np

from .node import Node
from .pool import PagePool
from .rules import Rule
from .thinned import Thinned


class PrefixTree:
    """page: tokens a node, the least common multiple of the groups' page sizes."""

    def __init__(self, page: int, pools: Sequence[PagePool], rules: Sequence[Rule]) -> None:
        self.page = page
        self.pools = pools
        self.rules = rules
        self.roots: dict[str, Node] = {}
        self.nodes = 0
        self._clock = count(1)
        self._leaves: list[tuple[int, int, int, Node]] = []  # heap; stale entries are skipped
        self._serial = count()
        self._thinned = {g: Thinned(pools[g].size) for g, rule in enumerate(rules) if rule.sparse}

    def root(self, namespace: str) -> Node:
        if namespace not in self.roots:
            self.roots[namespace] = Node(b"", None, len(self.pools))
        return self.roots[namespace]

    def match(self, tokens: np.ndarray, namespace: str = "", most: int = 1 << 30) -> list[Node]:
        """The longest usable path for the first `most` tokens (int32), without the root."""
        node = self.roots.get(namespace)
        path: list[Node] = []
        if node is None:
            return []
        text, width = tokens.tobytes(), self.page * tokens.itemsize
        pages = min(most, len(tokens)) // self.page
        for end in range(width, pages * width + 1, width):
            child = node.children.get(text[end - width : end])
            if child is None:
                break
            path.append(child)
            node = child
        length = -1
        while length != len(path):  # a rule may shorten what another one accepted
            length = len(path)
            for rule in self.rules:
                path = rule.usable(path)
        return path

    def touch(self, path: Sequence[Node], priority: int) -> None:
        """Marks a path as used now."""
        now = next(self._clock)
        for node in path:
            node.used = now
            node.priority = max(node.priority, priority)

    def append(
        self,
        parent: Node,
        keys: Sequence[bytes],
        pages: Sequence[tuple[np.ndarray, np.ndarray]],
        priority: int,
    ) -> list[Node]:
        """A chain of new nodes below `parent`, which has no child with the first key.

        pages: for each group, int32 [nodes, pages a node], and bool [nodes]: which of the nodes get
        theirs. The tree takes a reference to every page it gets.
        """
        assert parent.alive and (not keys or keys[0] not in parent.children)
        held = []
        for pool, (rows, kept) in zip(self.pools, pages, strict=True):
            pool.cache(rows[kept].ravel())
            held.append([row if keep else None for row, keep in zip(rows, kept, strict=True)])
        nodes: list[Node] = []
        now = next(self._clock)
        for key, *own in zip(keys, *held, strict=True):
            node = Node(key, parent, 0)
            node.pages, node.used, node.priority = own, now, priority
            parent.children[key] = node
            nodes.append(node)
            parent = node
        self.nodes += len(nodes)
        for group, thinned in self._thinned.items():
            rows, kept = pages[group]
            thinned.add(nodes, rows, kept, priority, now)
        return nodes

    def fill(self, node: Node, group: int, pages: np.ndarray) -> None:
        """Gives a node pages of one group, in place of those it has."""
        node.used = next(self._clock)
        self._empty(node, group)
        self.pools[group].cache(pages)
        node.pages[group] = pages.copy()
        if group in self._thinned:
            one = np.ones(1, dtype=bool)
            self._thinned[group].add([node], pages[None], one, node.priority, node.used)

    def keep(self, node: Node) -> None:
        """A request may well resume behind this node, or one before it, since its last token is to
        be computed: what it reads goes later than what lies further up."""
        now = next(self._clock)
        for group, thinned in self._thinned.items():
            at: Node | None = node
            for _ in range(self.rules[group].needed(node.depth) + 1):
                if at is None:
                    break
                held = at.pages[group]
                if held is not None:
                    thinned.keep(held, at.priority, now)
                at = at.parent

    def released(self, node: Node | None) -> None:
        """A request let go of the path that ends here: its end may be evictable now."""
        while node is not None and not node.alive:
            node = node.parent
        if node is not None and node.parent is not None and not node.children:
            entry = (node.priority, node.used, next(self._serial), node)
            heapq.heappush(self._leaves, entry)
            if len(self._leaves) > 4 * self.nodes + 64:
                self._tidy()

    def _tidy(self) -> None:
        """Drops stale entries: one is left for each leaf."""
        leaves = {id(entry[3]): entry for entry in self._leaves if not entry[3].children}
        self._leaves = [entry for entry in leaves.values() if entry[3].alive]
        heapq.heapify(self._leaves)

    def evict(self, group: int, wanted: int) -> None:
        """Frees pages of `group` until `wanted` are free or nothing more can go.

        Of a sparse group only its own pages go, and the nodes stay for the others. Else whole
        leaves, low priority and long unused first; then idle nodes above busy ones, with all below.
        """
        pool = self.pools[group]
        if self.rules[group].sparse:
            self._thin(group, wanted)
            return
        while pool.free < wanted and self._leaves:
            priority, used, _, node = heapq.heappop(self._leaves)
            if not node.alive or node.children or self._busy(node):
                continue  # when it is released, or its last child goes, it comes back
            if (priority, used) != (node.priority, node.used):
                self.released(node)
                continue
            self.remove(node)
        if pool.free < wanted and pool.evictable:
            self._cut(group, wanted)

    def _cut(self, group: int, wanted: int) -> None:
        """A request that computed a page itself, beside one that was cached, may have stored its
        next pages below the cached one, or its pages of another group in the same node: then idle
        pages are in a busy node, or above one."""
        pool = self.pools[group]
        for node in sorted(self.walk(), key=lambda n: (n.priority, n.used)):
            if pool.free >= wanted:
                return
            held = node.pages[group]
            if node.alive and held is not None and bool((pool.refs[held] == 1).any()):
                self.remove(node)

    def _thin(self, group: int, wanted: int) -> None:
        pool, thinned = self.pools[group], self._thinned[group]
        idle = np.flatnonzero(pool.cached & (pool.refs == 1))
        nodes, gone = [], []
        for node in thinned.owners[thinned.first(idle, wanted - pool.free)].tolist():
            held = node.pages[group]
            if held is not None:  # it did not go with another page of its node
                node.pages[group] = None
                gone.append(held)
                nodes.append(node)
        if gone:
            pages = np.concatenate(gone)
            pool.uncache(pages)
            thinned.owners[pages] = None
        if all(rule.sparse for rule in self.rules):
            for node in nodes:
                self._prune(node)

    def _prune(self, node: Node) -> None:
        """Takes out the end of a path that holds nothing any more."""
        while node.parent is not None and not node.children and node.empty and node.alive:
            parent = node.parent
            self.remove(node)
            node = parent

    def _busy(self, node: Node) -> bool:
        return any(
            held is not None and bool((pool.refs[held] > 1).any())
            for pool, held in zip(self.pools, node.pages, strict=True)
        )

    def remove(self, node: Node) -> None:
        """Takes a node and all below it out of the tree."""
        assert node.parent is not None
        del node.parent.children[node.key]
        parent, stack = node.parent, [node]
        while stack:
            gone = stack.pop()
            stack += gone.children.values()
            gone.alive = False
            self.nodes -= 1
            for group in range(len(self.pools)):
                self._empty(gone, group)
        self.released(parent)

    def _empty(self, node: Node, group: int) -> None:
        pages = node.pages[group]
        if pages is not None:
            node.pages[group] = None
            self.pools[group].uncache(pages)
            if group in self._thinned:  # or it would keep all that it was connected with
                self._thinned[group].owners[pages] = None

    def walk(self) -> list[Node]:
        """All nodes, parents first, without the roots."""
        found, stack = (
            [],
            [child for root in self.roots.values() for child in root.children.values()],
        )
        while stack:
            node = stack.pop()
            found.append(node)
            stack += node.children.values()
        return found

    def check(self) -> None:
        """Asserts that the tree and the pools agree about which pages are cached."""
        nodes = self.walk()
        assert len(nodes) == self.nodes
        for group, pool in enumerate(self.pools):
            held = [p for n in nodes if (p := n.pages[group]) is not None]
            pages = np.concatenate(held) if held else np.empty(0, dtype=np.int32)
            assert len(np.unique(pages)) == len(pages), "two nodes hold one page"
            assert int(pool.cached.sum()) == len(pages) and pool.cached[pages].all()
            if group in self._thinned:
                owners = [n for n in nodes if (p := n.pages[group]) is not None for _ in p]
                assert self._thinned[group].owners[pages].tolist() == owners
                assert np.count_nonzero(self._thinned[group].owners) == len(owners)
        for node in nodes:
            assert node.alive and node.parent is not None
            assert node.parent.children[node.key] is node
