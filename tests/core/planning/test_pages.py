"""How KV groups share memory: windows get what they can use, full groups the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from tests.fakes.requests import attention

from inferplane.cache.manager import CacheGroup, KVCache
from inferplane.planning.pages import Demand, capacity, given, share, window_pages
from inferplane.spec import GroupKind, KVGroup, standard_layout

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=3)

DEMAND = Demand(requests=4, length=1 << 16, uncommitted=64, prefixes=False)
MiB = 1 << 20


def group(window: int = 0, page: int = 16, layers: int = 2) -> KVGroup:
    """A token of one layer takes 128 bytes."""
    return KVGroup(
        index=0,
        name="group",
        kind=GroupKind.WINDOW if window else GroupKind.FULL,
        layers=tuple(range(layers)),
        layout=standard_layout(attention(page_size=page)),
        window=window,
    )


def size(groups, pages) -> int:
    return sum(g.page_bytes * count for g, count in zip(groups, pages, strict=True))


@pytest.mark.parametrize(
    ("window", "page", "pages"),
    [(1, 16, 1), (2, 16, 2), (16, 16, 2), (17, 16, 2), (18, 16, 3), (128, 16, 9), (5, 1, 5)],
)
def test_the_pages_of_a_window(window, page, pages):
    assert window_pages(group(window, page)) == pages
    cached = CacheGroup(kind=GroupKind.WINDOW, page_size=page, pages=99, window=window)
    assert cached.window_pages == pages


def test_full_groups_get_what_windows_cannot_use():
    pages = share([group(), group(128)], DEMAND, 16 * MiB)
    window = 4 * (9 + 1) + 64 // 16  # four requests, and a step
    assert pages == (16 * MiB // (16 * 256) - window, window)


def test_a_prefix_tree_keeps_as_many_windows_again():
    pages = given([group(), group(128)], replace(DEMAND, prefixes=True), 5 * 1024 // 16 - 1)
    assert pages[1] == 8 * (9 + 1) + 64 // 16


def test_or_one_for_every_thousand_tokens_or_four_windows():
    asked = replace(DEMAND, prefixes=True), 32 * 1024 // 16
    assert given([group(), group(128)], *asked)[1] == (4 + 32) * (9 + 1) + 64 // 16
    assert given([group(), group(512)], *asked)[1] == (4 + 16) * (33 + 1) + 64 // 16


def test_where_memory_is_scarce_windows_get_a_quarter_of_the_tokens():
    full, window = share([group(), group(4096)], DEMAND, 16 * MiB)
    assert window == pytest.approx(full / 4, abs=1)


def test_but_one_window_and_a_step_at_least():
    full, window = share([group(), group(512)], DEMAND, MiB // 2)
    assert window == 33 + 1 + 64 // 16
    assert full == MiB // 2 // (16 * 256) - window


def test_requests_that_fit_into_the_window_need_as_much_everywhere():
    full, window = share([group(), group(4096)], replace(DEMAND, length=4096), 4 * MiB)
    assert window == full


def test_more_than_all_requests_could_use_is_left():
    pages = share([group(), group(128)], replace(DEMAND, length=256), 1 << 40)
    assert pages == (4 * 256 // 16, 4 * 10 + 4)


def test_windows_alone_get_what_they_can_use_or_all_there_is():
    assert share([group(128)], DEMAND, 1 << 40) == (4 * 10 + 4,)
    assert share([group(128)], DEMAND, 30 * 16 * 256) == (30,)


def test_pages_that_are_given_are_those_of_full_groups():
    groups = [group(), group(128), group(page=32)]
    assert given(groups, DEMAND, 1000) == (1000, 44, 1000)
    assert given(groups, DEMAND, 20) == (20, 20, 20)  # no group has more than the full ones


def test_pages_that_are_given_are_those_of_windows_where_all_are():
    assert given([group(128), group(64)], DEMAND, 7) == (7, 7)


KINDS = st.tuples(st.sampled_from([0, 0, 1, 5, 24, 200]), st.sampled_from([1, 4, 16]))


@drawn(
    st.lists(KINDS, min_size=1, max_size=3),
    st.integers(1, 8),
    st.integers(2, 500),
    st.integers(1, 100),
    st.booleans(),
    st.integers(0, 1 << 20),
)
def test_all_that_is_shared_fits_and_the_cache_agrees(
    kinds, requests, length, step, prefixes, room
):
    groups = [group(window, page) for window, page in kinds]
    demand = Demand(requests=requests, length=length, uncommitted=step, prefixes=prefixes)
    pages = share(groups, demand, room)
    assert size(groups, pages) <= room
    cached = [
        CacheGroup(kind=g.kind, page_size=g.page_size, pages=count, window=g.window)
        for g, count in zip(groups, pages, strict=True)
    ]
    most = capacity(groups, pages)
    assert KVCache(cached, 1, length).capacity == (most if most is not None else 1 << 40)
    more = share(groups, demand, room + 10_000)
    assert all(a <= b for a, b in zip(pages, more, strict=True))
