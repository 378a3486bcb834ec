"""The KV cache as the scheduler sees it: page tables of running requests over pools and a tree.

A slot is the row of a running request. Lengths are in tokens. `updates` and `copies` collect what
the runner must be told with the next batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import lcm

import numpy as np

from inferplane.spec import GroupKind

from .node import Node
from .pool import PagePool
from .rules import rule_for
from .tree import PrefixTree

_NEVER = 1 << 40  # tokens
_APART, _WINDOWS = 1024, 4  # tokens, or windows, from one place to resume at to the next


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheGroup:
    """What the cache must know of a `KVGroup`: tokens a page, the window, and the pages it has."""

    kind: GroupKind
    page_size: int
    pages: int
    window: int = 0

    @property
    def window_pages(self) -> int:
        """Pages that a token's window reaches into at most, with the token's own."""
        return (self.window + self.page_size - 2) // self.page_size + 1

    @property
    def bounds_length(self) -> bool:
        """Whether all tokens of a request need pages at once. A window that has too few pages to
        move on is a bound as well."""
        if self.kind is GroupKind.WINDOW:
            return self.pages < self.window_pages
        return self.kind is not GroupKind.STATE


class KVCache:
    """tables[g] is int32 [slots, pages]: the page of each page index, -1 where there is none.

    held[g] [slots]: pages indexed so far; first[g] [slots]: those before it were let go.
    due [slots]: the length at which a slot has a page to let go.
    """

    def __init__(
        self, groups: Sequence[CacheGroup], slots: int, max_length: int, prefix_caching: bool = True
    ) -> None:
        self.groups = list(groups)
        self.prefix_caching = prefix_caching
        self.pools = [PagePool(group.pages) for group in groups]
        token_groups = [g for g in groups if g.kind is not GroupKind.STATE]
        page = lcm(*(g.page_size for g in token_groups)) if token_groups else 16
        rules = [rule_for(g.kind, i, page, g.window) for i, g in enumerate(groups)]
        self.tree = PrefixTree(page, self.pools, rules)
        self.tables = [np.full((slots, self._columns(g, max_length)), -1, np.int32) for g in groups]
        self.held = np.zeros((len(groups), slots), dtype=np.int32)
        self.first = np.zeros((len(groups), slots), dtype=np.int32)
        self.due = np.full(slots, _NEVER, dtype=np.int64)
        self._apart = max(_APART, *(_WINDOWS * g.window for g in groups))
        self._windows = [(i, g) for i, g in enumerate(groups) if g.kind is GroupKind.WINDOW]
        self.ends: list[Node | None] = [None] * slots  # the last node of a slot's stored path
        self.namespaces = [""] * slots
        self.updates: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]] = []
        self.copies: list[tuple[int, int, int]] = []
        self.stored: list[Node] = []  # put into the tree by the step that is being scheduled

    @staticmethod
    def _columns(group: CacheGroup, max_length: int) -> int:
        return 1 if group.kind is GroupKind.STATE else -(-max_length // group.page_size)

    @property
    def capacity(self) -> int:
        """Tokens that one request could have at most: a window moves on in any length."""
        bounds = [group.pages * group.page_size for group in self.groups if group.bounds_length]
        return min(bounds, default=_NEVER)

    # a request's life: match, open, extend (or grow), store, trim, close

    def match(self, tokens: np.ndarray, namespace: str = "") -> list[Node]:
        """The cached path for a prompt; at least its last token is left to compute."""
        if not self.prefix_caching:
            return []
        return self.tree.match(tokens, namespace, len(tokens) - 1)

    def fits(self, path: Sequence[Node], length: int, spare: int = 0) -> bool:
        """Whether a request that resumes behind `path` can have pages for `length` tokens, or for
        a window, with `spare` pages left over."""
        for group, pool in enumerate(self.pools):
            reused = self._reused(group, path)
            idle = int(np.count_nonzero(pool.refs[reused] == 1))
            more = self._pages(group, length)
            if self._is_paged(group):  # a running state does not grow
                more -= len(path) * self._per_node(group)
                if self.groups[group].kind is GroupKind.WINDOW:
                    more = min(more, self.groups[group].window_pages - len(reused))
                more += spare
            if more > pool.available - idle:
                return False
        return True

    def open(self, slot: int, path: Sequence[Node], namespace: str = "", priority: int = 0) -> int:
        """Gives a slot the pages of a matched path. Returns the tokens that need no computing."""
        self.tree.touch(path, priority)
        for group, pool in enumerate(self.pools):
            pages = self._reused(group, path)
            if not self._is_paged(group):
                continue
            pool.acquire(pages)
            held = len(path) * self._per_node(group)
            self.held[group, slot] = held
            self.first[group, slot] = held - len(pages)
            self._note(group, slot, held - len(pages), pages)
        self.ends[slot] = path[-1] if path else None
        self.namespaces[slot] = namespace
        if path:
            self.tree.keep(path[-1])
        self._set_due(np.array([slot]))
        self._open_states(slot, path)
        return len(path) * self.tree.page

    def _open_states(self, slot: int, path: Sequence[Node]) -> None:
        """A page for each running state; a saved state is copied into it before the next step."""
        for group in range(len(self.groups)):
            if self._is_paged(group):
                continue
            saved = self._reused(group, path)
            self.pools[group].acquire(saved)  # making room must not evict it
            self._make_room(group, 1)
            page = self.pools[group].allocate(1)
            self.held[group, slot] = 1
            self._note(group, slot, 0, page)
            self.copies += [(group, source, int(page[0])) for source in saved.tolist()]
            self.pools[group].release(saved)

    def reach(self, slot: int, spare: int = 0) -> int:
        """The length for which window groups have pages now, with `spare` pages left over."""
        found = _NEVER
        for group, spec in self._windows:
            pages = int(self.held[group, slot]) + self.pools[group].available - spare
            found = min(found, pages * spec.page_size)
        return found

    def extend(self, slot: int, length: int, room: int = 0) -> bool:
        """Pages for `length` tokens of one slot; False (and nothing taken) if there are too few.

        room: tokens that are expected to follow.
        """
        needs = [
            max(0, self._pages(g, length) - int(self.held[g, slot]))
            for g in range(len(self.groups))
        ]
        if not all(self._make_room(group, need) for group, need in enumerate(needs)):
            return False
        for group, need in enumerate(needs):
            if need:
                held = int(self.held[group, slot])
                last = int(self.tables[group][slot, held - 1]) if held else -1
                spare = self._pages(group, length + room) - self._pages(group, length)
                pages = self.pools[group].allocate(need, last, spare)
                self._note(group, slot, held, pages)
                self.held[group, slot] += need
        return True

    def grow(self, slots: np.ndarray, lengths: np.ndarray) -> bool:
        """`extend` by at most one page for many slots at once; all or none."""
        needing = []
        for group, spec in enumerate(self.groups):
            rows = slots[lengths > self.held[group, slots] * spec.page_size]
            needing.append(rows if self._is_paged(group) else rows[:0])
        if not all(self._make_room(group, len(rows)) for group, rows in enumerate(needing)):
            return False
        for group, rows in enumerate(needing):
            if len(rows):
                columns = self.held[group, rows]
                last = self.tables[group][rows, columns - 1]
                pages = self.pools[group].grow(last)
                self.tables[group][rows, columns] = pages
                self.held[group, rows] += 1
                self.updates.append((group, rows, columns, pages))
        return True

    def store(
        self, slot: int, tokens: np.ndarray, priority: int = 0, resumable: bool = True
    ) -> None:
        """Puts the slot's full pages of `tokens` into the tree, where they are not there yet.
        resumable: others are likely to go on behind these tokens. In a long text there are places
        for that on the way, since its end is what the tree gives up first.

        The pages may be written by the step that is being scheduled: whoever matches them runs in
        that step or later, and reads after the write. `forget` undoes it if the step fails.
        """
        if not self.prefix_caching:
            return
        page, node = self.tree.page, self.ends[slot]
        if node is None or not node.alive:
            node = self.tree.root(self.namespaces[slot])
        last, passed = len(tokens) // page, node.depth * page // self._apart
        if node.depth < last:
            width = page * tokens.itemsize
            text = tokens[: last * page].tobytes()
            keys = [text[at * width : (at + 1) * width] for at in range(node.depth, last)]
            node = self._store(slot, node, keys, priority)
        self.ends[slot] = node if node.depth else None
        if resumable or passed < node.depth * page // self._apart:
            self.tree.keep(node)

    def _store(self, slot: int, node: Node, keys: list[bytes], priority: int) -> Node:
        """The end of the path of `keys` below `node`, which is made where it is not there yet."""
        for at, key in enumerate(keys):
            child = node.children.get(key)
            if child is None:
                first, count = node.depth, len(keys) - at
                pages = [self._rows(slot, group, first, count) for group in range(len(self.pools))]
                added = self.tree.append(node, keys[at:], pages, priority)
                self.stored += added
                return added[-1]
            self._fill(slot, child)
            node = child
        return node

    def _fill(self, slot: int, node: Node) -> None:
        """Gives a node the window pages that it has lost, of a slot that computed them again. Its
        other pages are of no use beside the slot's: idle ones are exchanged, and free then."""
        if not any(node.pages[group] is None for group, _ in self._windows):
            return
        for group, pool in enumerate(self.pools):
            rows, kept = self._rows(slot, group, node.depth - 1, 1)
            held = node.pages[group]
            if kept[0] and (held is None or bool((pool.refs[held] == 1).all())):
                self.tree.fill(node, group, rows[0])
                self.stored.append(node)

    def save_states(self, slot: int, length: int) -> None:
        """Saves running states at `length` launched tokens, if that is the end of a stored page.

        The copy is made before the step that is being scheduled; `forget` undoes it too.
        """
        node = self.ends[slot]
        if node is None or not node.alive or node.depth * self.tree.page != length:
            return
        for group in range(len(self.groups)):
            if (
                not self._is_paged(group)
                and node.pages[group] is None
                and self._make_room(group, 1)
                and node.alive  # making room may have evicted it
            ):
                page = self.pools[group].allocate(1)
                self.tree.fill(node, group, page)
                self.tree.keep(node)
                self.pools[group].release(page)
                self.stored.append(node)
                self.copies.append((group, int(self.tables[group][slot, 0]), int(page[0])))

    def trim(self, slots: np.ndarray, lengths: np.ndarray) -> None:
        """Lets go of pages that no token after `lengths` [slots] reads (window groups). Slots are
        distinct. Launched steps begin at `lengths` or later."""
        late = lengths >= self.due[slots]
        if not late.any():
            return
        slots, lengths = slots[late], lengths[late]
        for group, spec in self._windows:
            first = self.first[group, slots]
            keep = np.maximum(lengths - spec.window + 1, 0) // spec.page_size
            counts = np.maximum(np.minimum(keep, self.held[group, slots]) - first, 0)
            rows = np.repeat(slots, counts)
            if len(rows):
                offsets = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
                columns = (np.repeat(first, counts) + offsets).astype(np.int32)
                pages = self.tables[group][rows, columns]
                gone = np.full(len(rows), -1, dtype=np.int32)
                self.tables[group][rows, columns] = gone
                self.updates.append((group, rows, columns, gone))
                self.first[group, slots] += counts.astype(np.int32)
                pool = self.pools[group]
                if (pool.refs[pages] == 1).all():
                    pool.release(pages)
                else:  # some may be shared between these slots
                    pool.release(*np.unique(pages, return_counts=True))
        self._set_due(slots)

    def _set_due(self, slots: np.ndarray) -> None:
        for at, (group, spec) in enumerate(self._windows):
            due = (self.first[group, slots] + 1) * spec.page_size + spec.window - 1
            self.due[slots] = np.minimum(self.due[slots], due) if at else due

    def close(self, slot: int) -> None:
        """Takes everything back from a slot. What is in the tree stays there."""
        for group, pool in enumerate(self.pools):
            first, held = int(self.first[group, slot]), int(self.held[group, slot])
            pool.release(self.tables[group][slot, first:held].copy())
            self.tables[group][slot, :held] = -1
            self.held[group, slot] = self.first[group, slot] = 0
        self.due[slot] = _NEVER
        self.tree.released(self.ends[slot])
        self.ends[slot] = None

    def forget(self, nodes: Sequence[Node]) -> None:
        """A step failed: what it stored may never have been computed."""
        for node in nodes:
            if node.alive:
                self.tree.remove(node)

    def clear(self) -> None:
        """Empties the tree of all that no request uses."""
        for group, pool in enumerate(self.pools):
            self.tree.evict(group, pool.size)

    def check(self) -> None:
        """Asserts the invariants: see `PagePool.check` and `PrefixTree.check`."""
        self.tree.check()
        for group, pool in enumerate(self.pools):
            owners = np.zeros(pool.size, dtype=np.int32)
            for slot in np.flatnonzero(self.held[group]):
                row = self.tables[group][slot]
                live = row[self.first[group, slot] : self.held[group, slot]]
                assert (live >= 0).all()
                np.add.at(owners, live, 1)
            pool.check(owners)

    def check_reads(self, slots: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> None:
        """Asserts that slots hold all pages that a launched step reads, which computes their tokens
        starts to ends."""
        for group, spec in enumerate(self.groups):
            if self._is_paged(group):
                reads = np.maximum(starts - spec.window + 1, 0) if spec.window else 0 * starts
                assert (self.first[group, slots] * spec.page_size <= reads).all()
                assert (self.held[group, slots] * spec.page_size >= ends).all()

    def _is_paged(self, group: int) -> bool:
        return self.groups[group].kind is not GroupKind.STATE

    def _pages(self, group: int, length: int) -> int:
        """Pages of a group that a request of `length` tokens indexes."""
        return -(-length // self.groups[group].page_size) if self._is_paged(group) else 1

    def _per_node(self, group: int) -> int:
        return self.tree.page // self.groups[group].page_size

    def _reused(self, group: int, path: Sequence[Node]) -> np.ndarray:
        """Pages of a matched path that a request behind it reads."""
        rule, depth = self.tree.rules[group], len(path)
        held = [node.pages[group] for node in path[depth - rule.needed(depth) :]] if path else []
        pages = [p for p in held if p is not None]
        if not pages:
            return np.empty(0, dtype=np.int32)
        found = np.concatenate(pages)
        if not self._is_paged(group):
            return found
        first = rule.first_needed(depth * self.tree.page) // self.groups[group].page_size
        return found[first - depth * self._per_node(group) :]

    def _rows(self, slot: int, group: int, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The slot's pages of `count` tree pages, and which of them the tree can have: not those
        that were let go, that are cached already, or that are running states."""
        if not self._is_paged(group):
            return np.zeros((count, 1), dtype=np.int32), np.zeros(count, dtype=bool)
        per = self._per_node(group)
        rows = self.tables[group][slot, first * per : (first + count) * per].reshape(count, per)
        gone = (rows < 0).any(1) | self.pools[group].cached[rows].any(1)
        return rows.copy(), np.logical_not(gone)

    def _make_room(self, group: int, count: int) -> bool:
        """Evicts until `count` pages are free; False if that cannot be."""
        pool = self.pools[group]
        if pool.free < count <= pool.available:
            self.tree.evict(group, count)
        return pool.free >= count

    def _note(self, group: int, slot: int, first: int, pages: np.ndarray) -> None:
        columns = np.arange(first, first + len(pages), dtype=np.int32)
        self.tables[group][slot, first : first + len(pages)] = pages
        self.updates.append((group, np.full(len(pages), slot, np.int32), columns, pages.copy()))
