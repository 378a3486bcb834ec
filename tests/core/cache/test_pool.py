"""Pages: free, cached or in use, handed out in runs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from inferplane.cache.pool import PagePool

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=3)


def array(*pages: int) -> np.ndarray:
    return np.array(pages, dtype=np.int32)


def taken(size: int, *pages: int) -> PagePool:
    """A pool in which just these pages are in use."""
    pool = PagePool(size)
    pool.allocate(size)
    pool.release(array(*(p for p in range(size) if p not in pages)))
    return pool


class TestRuns:
    def test_pages_are_consecutive(self):
        assert PagePool(9).allocate(4).tolist() == [0, 1, 2, 3]

    def test_a_hole_that_is_too_small_is_left(self):
        assert taken(10, 2, 5).allocate(4).tolist() == [6, 7, 8, 9]

    def test_without_a_long_run_the_longest_are_joined(self):
        assert taken(8, 2, 6).allocate(5).tolist() == [3, 4, 5, 0, 1]

    def test_pages_behind_the_last_one_are_preferred(self):
        assert taken(10, 0, 1, 5).allocate(2, after=5).tolist() == [6, 7]

    def test_a_run_behind_the_last_one_that_is_taken_is_not_used(self):
        assert taken(10, 0, 1, 5, 7).allocate(2, after=5).tolist() == [2, 3]

    def test_the_last_page_has_nothing_behind_it(self):
        assert taken(6, 5).allocate(2, after=5).tolist() == [0, 1]

    def test_room_is_left_behind_a_run(self):
        pool = PagePool(20)
        first, second = pool.allocate(2, room=4), pool.allocate(2, room=4)
        assert second[0] - first[-1] > 4

    def test_room_is_a_hint_only(self):
        assert PagePool(4).allocate(4, room=9).tolist() == [0, 1, 2, 3]

    def test_none_are_no_pages(self):
        assert PagePool(4).allocate(0).tolist() == []

    def test_more_than_there_are_is_a_mistake(self):
        with pytest.raises(AssertionError, match="5 pages asked for, 4 are free"):
            PagePool(4).allocate(5)


class TestGrow:
    def test_takes_the_page_behind(self):
        assert taken(9, 2, 5).grow(array(2, 5)).tolist() == [3, 6]

    def test_rows_with_the_same_last_page_get_different_pages(self):
        pages = taken(9, 2).grow(array(2, 2))
        assert pages[0] == 3
        assert len(set(pages.tolist())) == 2

    def test_takes_another_page_where_the_next_is_taken(self):
        assert taken(9, 2, 3).grow(array(2))[0] not in (2, 3)

    def test_takes_another_page_at_the_end(self):
        assert taken(4, 3).grow(array(3))[0] in (0, 1, 2)

    def test_a_row_without_a_page_gets_one(self):
        assert len(PagePool(4).grow(array(-1, -1))) == 2

    def test_leaves_room_behind_each_page_where_it_is_elsewhere(self):
        pages = sorted(PagePool(32).grow(array(-1, -1, -1)).tolist())
        assert all(b - a >= 8 for a, b in pairwise(pages))

    def test_takes_what_there_is_where_there_is_no_room(self):
        pool = PagePool(9)
        assert sorted(pool.grow(array(*[-1] * 9)).tolist()) == list(range(9))
        assert pool.free == 0


class TestReferences:
    def test_a_page_is_free_when_its_last_reference_goes(self):
        pool = PagePool(4)
        page = pool.allocate(1)
        pool.acquire(page)
        pool.release(page)
        assert pool.free == 3
        pool.release(page)
        assert pool.free == 4

    def test_one_reference_too_few_is_a_mistake(self):
        pool = PagePool(4)
        page = pool.allocate(1)
        pool.release(page)
        with pytest.raises(AssertionError, match="released more often"):
            pool.release(page)

    def test_a_cached_page_that_is_in_use_cannot_be_evicted(self):
        pool = PagePool(4)
        pool.cache(pool.allocate(1))
        assert (pool.free, pool.evictable) == (3, 0)

    def test_a_cached_page_that_is_idle_can(self):
        pool = PagePool(4)
        page = pool.allocate(1)
        pool.cache(page)
        pool.release(page)
        assert (pool.free, pool.evictable, pool.available) == (3, 1, 4)

    def test_a_cached_page_that_is_used_again_cannot(self):
        pool = PagePool(4)
        page = pool.allocate(1)
        pool.cache(page)
        pool.release(page)
        pool.acquire(page)
        assert pool.evictable == 0

    def test_an_uncached_idle_page_is_free(self):
        pool = PagePool(4)
        page = pool.allocate(1)
        pool.cache(page)
        pool.release(page)
        pool.uncache(page)
        assert (pool.free, pool.evictable) == (4, 0)

    def test_an_uncached_page_stays_with_its_user(self):
        pool = PagePool(4)
        page = pool.allocate(1)
        pool.cache(page)
        pool.uncache(page)
        assert pool.free == 3


class TestCheck:
    def test_a_reference_that_nobody_owns_is_seen(self):
        pool = PagePool(2)
        pool.allocate(1)
        with pytest.raises(AssertionError, match="nobody owns"):
            pool.check(array(0, 0))

    def test_owned_references_are_fine(self):
        pool = PagePool(2)
        pool.allocate(1)
        assert pool.check(array(1, 0)) is None
