"""Pages of one KV group: reference counts, and free pages handed out in runs.

A page is free (no reference), cached (only the tree refers to it), or in use.
"""

from __future__ import annotations

import numpy as np

NO_PAGES = np.empty(0, dtype=np.int32)
_APART = 8  # pages from one request that grows to the next, where there is space


class PagePool:
    """refs: references a page. cached: whether one of them is the tree's. All sizes in pages."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.refs = np.zeros(size, dtype=np.int32)
        self.cached = np.zeros(size, dtype=bool)
        self._free = np.ones(size, dtype=bool)
        self.free = size
        self.evictable = 0  # cached pages that nothing else refers to
        self._cursor = 0

    @property
    def available(self) -> int:
        """Free pages, and cached ones that could be evicted."""
        return self.free + self.evictable

    @property
    def in_use(self) -> int:
        """Pages that requests hold."""
        return self.size - self.available

    def allocate(self, count: int, after: int = -1, room: int = 0) -> np.ndarray:
        """`count` free pages, int32, each with one reference. The caller checks `free` first.

        after: continue behind this page if the pages there are free. room: leave so many behind
        the last one for later growth, if there is space. Both are hints.
        """
        assert count <= self.free, f"{count} pages asked for, {self.free} are free"
        if count == 0:
            return NO_PAGES
        if (
            after >= 0
            and after + count < self.size
            and self._free[after + 1 : after + 1 + count].all()
        ):
            pages = np.arange(after + 1, after + 1 + count, dtype=np.int32)
        else:
            pages = self._runs(count, room)
        self._take(pages)
        return pages

    def grow(self, last: np.ndarray) -> np.ndarray:
        """One more page for each row, behind `last` [rows] where that page is free."""
        pages = last + 1
        fits = (last >= 0) & (pages < self.size)
        fits[fits] = self._free[pages[fits]]
        _, first = np.unique(pages, return_index=True)
        alone = np.zeros(len(pages), dtype=bool)
        alone[first] = True
        fits &= alone
        self._take(pages[fits])
        if not fits.all():
            pages[~fits] = self._scattered(len(pages) - int(np.count_nonzero(fits)))
        return pages

    def _scattered(self, count: int) -> np.ndarray:
        """`count` free pages, each with free ones behind it, if there are enough of those."""
        ids = np.flatnonzero(self._free)
        starts = np.flatnonzero(np.diff(ids, prepend=-2) != 1)
        offsets = np.arange(len(ids)) - np.repeat(starts, np.diff(starts, append=len(ids)))
        order = np.argsort(offsets % _APART != 0, kind="stable")
        pages = ids[order[:count]].astype(np.int32)
        self._take(pages)
        return pages

    def _take(self, pages: np.ndarray) -> None:
        self._free[pages] = False
        self.refs[pages] = 1
        self.free -= len(pages)

    def _runs(self, count: int, room: int) -> np.ndarray:
        """The first free run behind the cursor that is long enough; else the longest ones."""
        ids = np.flatnonzero(self._free)
        cuts = np.flatnonzero(np.diff(ids) != 1) + 1
        starts = ids[np.concatenate(([0], cuts))]
        lengths = np.diff(np.concatenate(([0], cuts, [len(ids)])))
        for wanted in (count + room, count):
            enough = np.flatnonzero(lengths >= wanted)
            if len(enough):
                behind = enough[starts[enough] >= self._cursor]
                start = int(starts[behind[0] if len(behind) else enough[0]])
                if start < self._cursor < start + int(lengths[enough[0]]) - wanted:
                    start = self._cursor
                self._cursor = start + wanted
                return np.arange(start, start + count, dtype=np.int32)
        order = np.argsort(-lengths, kind="stable")
        pieces = [np.arange(starts[i], starts[i] + lengths[i]) for i in order]
        return np.concatenate(pieces)[:count].astype(np.int32)

    def acquire(self, pages: np.ndarray) -> None:
        """One more reference each. `pages` are distinct and not free."""
        self.evictable -= int(np.count_nonzero(self.cached[pages] & (self.refs[pages] == 1)))
        self.refs[pages] += 1

    def release(self, pages: np.ndarray, times: np.ndarray | int = 1) -> None:
        """One reference less each, or `times` [pages]; pages without any are free again. They are
        distinct."""
        self.refs[pages] -= times
        left = self.refs[pages]
        assert (left >= 0).all(), "a page was released more often than acquired"
        self.evictable += int(np.count_nonzero((left == 1) & self.cached[pages]))
        freed = pages[left == 0]
        self._free[freed] = True
        self.free += len(freed)

    def cache(self, pages: np.ndarray) -> None:
        """The tree refers to pages that are in use. They are distinct."""
        assert (self.refs[pages] > 0).all() and not self.cached[pages].any()
        self.refs[pages] += 1
        self.cached[pages] = True

    def uncache(self, pages: np.ndarray) -> None:
        """The tree lets go of pages. They are distinct."""
        assert self.cached[pages].all()
        self.cached[pages] = False
        self.refs[pages] -= 1
        freed = pages[self.refs[pages] == 0]
        self._free[freed] = True
        self.free += len(freed)
        self.evictable -= len(freed)

    def check(self, owners: np.ndarray) -> None:
        """Asserts that free + cached + in use = total, and that `owners` (references a page, the
        tree's left out) explain every reference."""
        assert (self.refs == owners + self.cached).all(), "a page has a reference nobody owns"
        assert (self._free == (self.refs == 0)).all(), "the free map and the references differ"
        assert self.free == int(self._free.sum())
        assert self.evictable == int(np.count_nonzero(self.cached & (self.refs == 1)))
        in_use = int(np.count_nonzero(owners))
        assert self.free + self.evictable + in_use == self.size
