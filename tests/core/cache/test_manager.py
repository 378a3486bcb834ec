"""The KV cache under any order of requests, steps, failures and evictions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from tests.fakes.kv import FULL, GROUPS, MIXED, Memory, Row, tokens

from inferplane.cache.manager import CacheGroup, KVCache
from inferplane.spec import GroupKind

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="property", est_seconds=6)

SLOTS, LONGEST = 3, 24
PREFIX = [0, 1, 1, 0, 1, 0, 0, 0, 1, 1, 1, 0, 1, 0, 1, 1]
TOKEN = st.integers(0, 1)
PICK = st.integers(0, 5)


class CacheMachine(RuleBasedStateMachine):
    """Rows reserve pages, then all of them step together, as the scheduler does it."""

    @initialize(groups=st.sampled_from(sorted(GROUPS)))
    def start(self, groups):
        self.cache = KVCache(GROUPS[groups], SLOTS, LONGEST)
        self.memory = Memory(self.cache)
        self.rows: dict[int, Row] = {}

    @precondition(lambda self: len(self.rows) < SLOTS)
    @rule(
        length=st.sampled_from([0, 4, 9, 13, 16]),
        own=st.lists(TOKEN, min_size=1, max_size=6),
        namespace=st.sampled_from(["", "", "", "a"]),
        priority=st.integers(0, 1),
    )
    def open(self, length, own, namespace, priority):
        slot = next(s for s in range(SLOTS) if s not in self.rows)
        row = Row(namespace, PREFIX[:length] + own)
        path = self.cache.match(tokens(row.tokens), namespace)
        if self.cache.fits(path, len(row.tokens) + 1):
            row.done = row.end = self.cache.open(slot, path, namespace, priority)
            assert row.done < len(row.tokens)
            self.rows[slot] = row
            self.reserve(slot, 8, cut=True)
            assert self.rows[slot].reserved, "what fits has pages for its first chunk"

    def reserve(self, slot, count, cut):
        row = self.rows[slot]
        end = min(row.done + count, len(row.tokens))
        if cut:
            end = min(end, max(self.cache.reach(slot), row.done + 1))
        before = self.cache.held[:, slot].copy()
        self.cache.save_states(slot, row.done)
        if not self.cache.extend(slot, end, room=4):
            assert (self.cache.held[:, slot] == before).all()
            assert self.short_of_pages({slot: end})
            return
        self.cache.store(slot, tokens(row.tokens[:end]))
        row.end, row.reserved = end, True

    @precondition(lambda self: self.idle())
    @rule(pick=PICK, count=st.sampled_from([1, 3, 4, 4, 8]), cut=st.booleans(), token=TOKEN)
    def chunk(self, pick, count, cut, token):
        """A part of a prompt, or one more token behind it."""
        slot = self.idle()[pick % len(self.idle())]
        row = self.rows[slot]
        if row.done == len(row.tokens):
            row.tokens.append(token)
        self.reserve(slot, count, cut)

    @precondition(lambda self: self.decoding())
    @rule(token=TOKEN)
    def decode(self, token):
        """One token each for several rows at once."""
        slots = self.decoding()
        ends = [self.rows[s].done + 1 for s in slots]
        if not self.cache.grow(np.array(slots, np.int32), np.array(ends, np.int32)):
            assert self.short_of_pages(dict(zip(slots, ends, strict=True)))
            return
        for slot, end in zip(slots, ends, strict=True):
            row = self.rows[slot]
            row.tokens.append(token)
            row.end, row.reserved = end, True

    @precondition(lambda self: self.stepping())
    @rule()
    def step(self):
        """The device computes what was reserved."""
        self.memory.copy()
        for row in self.rows.values():
            row.new = False
        for slot, row in self.stepping():
            self.memory.write(slot, row)
        for slot, row in self.stepping():
            self.memory.check(slot, row)
            self.memory.step_states(slot, row)
            row.done, row.reserved = row.end, False
            self.cache.trim(np.array([slot]), np.array([row.done]))
        self.cache.stored = []

    @precondition(lambda self: self.stepping())
    @rule(copied=st.booleans())
    def fail(self, copied):
        """The step raises, before or after its copies: nothing that it wrote can be trusted."""
        if copied:
            self.memory.copy()
        self.cache.copies = []
        self.cache.forget(self.cache.stored)
        self.cache.stored = []
        for slot, row in self.stepping():
            self.memory.write(slot, row, "garbage")
            self.cache.close(slot)
            del self.rows[slot]
        for slot in [s for s, row in self.rows.items() if row.new]:  # their copies are lost
            self.cache.close(slot)
            del self.rows[slot]

    @precondition(lambda self: self.idle())
    @rule(pick=PICK)
    def close(self, pick):
        slot = self.idle()[pick % len(self.idle())]
        row = self.rows.pop(slot)
        self.cache.store(slot, tokens(row.tokens[: row.done]))
        self.cache.close(slot)

    @precondition(lambda self: any(pool.evictable for pool in self.cache.pools))
    @rule(share=st.floats(0, 1))
    def evict(self, share):
        for group, pool in enumerate(self.cache.pools):
            wanted = pool.free + int(share * pool.evictable)
            self.cache.tree.evict(group, wanted)
            assert pool.free >= wanted

    @precondition(lambda self: self.cache.tree.nodes > 3)
    @rule()
    def clear(self):
        self.cache.clear()
        assert all(pool.evictable == 0 for pool in self.cache.pools)

    @invariant()
    def pages_and_references_add_up(self):
        self.cache.check()

    @invariant()
    def running_rows_can_read_what_they_need(self):
        if not any(row.reserved for row in self.rows.values()) and not self.cache.copies:
            for slot, row in self.rows.items():
                self.memory.check(slot, row)

    def stepping(self):
        return [(slot, row) for slot, row in self.rows.items() if row.reserved]

    def idle(self):
        return [
            slot for slot, row in self.rows.items() if not row.reserved and row.done < LONGEST - 1
        ]

    def decoding(self):
        return [slot for slot in self.idle() if self.rows[slot].done == len(self.rows[slot].tokens)]

    def short_of_pages(self, ends):
        """Whether some group really has too few pages that are free or could be."""
        for group, pool in enumerate(self.cache.pools):
            spec = self.cache.groups[group]
            if spec.kind is GroupKind.STATE:
                continue
            held = self.cache.held[group]
            need = sum(max(0, -(-end // spec.page_size) - held[s]) for s, end in ends.items())
            if need > pool.free + pool.evictable:
                return True
        return False


CacheMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestAnyOrder = CacheMachine.TestCase


def run(cache: KVCache, slot: int, text: list[int], namespace: str = "") -> int:
    """A request from its first token to its end; gives the tokens that were cached."""
    path = cache.match(tokens(text), namespace)
    cached = cache.open(slot, path, namespace)
    assert cache.extend(slot, len(text))
    cache.store(slot, tokens(text))
    cache.close(slot)
    return cached


ROOMY = [CacheGroup(kind=GroupKind.FULL, page_size=4, pages=500)]
TEXT = st.tuples(st.integers(0, 16), st.lists(TOKEN, min_size=1, max_size=8))


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXT, max_size=8), TEXT)
def test_a_match_is_the_longest_stored_prefix_in_pages(stored, asked):
    cache = KVCache(ROOMY, 1, LONGEST)
    texts = [PREFIX[:length] + own for length, own in stored]
    for text in texts:
        run(cache, 0, text)
    text = PREFIX[: asked[0]] + asked[1]
    ends = range(0, len(text), 4)  # whole pages, and one token left to compute
    known = {tuple(t[:end]) for t in [[], *texts] for end in range(0, len(t) + 1, 4)}
    wanted = max(end for end in ends if tuple(text[:end]) in known)
    assert len(cache.match(tokens(text))) * 4 == wanted


def test_the_last_token_of_a_prompt_is_left_to_compute():
    cache = KVCache(ROOMY, 1, LONGEST)
    run(cache, 0, PREFIX[:8])
    assert run(cache, 0, PREFIX[:8]) == 4


def test_namespaces_share_nothing():
    cache = KVCache(ROOMY, 1, LONGEST)
    run(cache, 0, PREFIX[:9], "tenant")
    assert run(cache, 0, PREFIX[:9]) == 0
    assert run(cache, 0, PREFIX[:9], "tenant") == 8


def test_without_prefix_caching_nothing_is_kept():
    cache = KVCache(ROOMY, 1, LONGEST, prefix_caching=False)
    run(cache, 0, PREFIX[:9])
    assert cache.match(tokens(PREFIX[:9])) == []
    assert cache.pools[0].free == 500


def test_capacity_is_what_the_smallest_group_holds():
    assert KVCache(MIXED, SLOTS, LONGEST).capacity == 48


def test_the_tree_page_is_the_least_common_multiple():
    groups = [
        CacheGroup(kind=GroupKind.FULL, page_size=4, pages=9),
        CacheGroup(kind=GroupKind.FULL, page_size=6, pages=9),
    ]
    assert KVCache(groups, 1, LONGEST).tree.page == 12


def test_extend_takes_nothing_when_one_group_is_full():
    groups = [
        CacheGroup(kind=GroupKind.FULL, page_size=4, pages=9),
        CacheGroup(kind=GroupKind.WINDOW, page_size=4, pages=2, window=4),
    ]
    cache = KVCache(groups, 1, LONGEST)
    cache.open(0, [])
    assert not cache.extend(0, 12)
    assert [pool.free for pool in cache.pools] == [9, 2]


def test_extend_evicts_what_is_idle():
    cache = KVCache(FULL, 2, 48)
    run(cache, 0, PREFIX * 3)
    assert cache.pools[0].free == 0
    cache.open(0, [])
    assert cache.extend(0, 8)


def test_trim_frees_pages_behind_the_window():
    cache = KVCache([CacheGroup(kind=GroupKind.WINDOW, page_size=4, pages=9, window=5)], 1, LONGEST)
    cache.open(0, [])
    cache.extend(0, 16)
    cache.trim(np.array([0]), np.array([16]))  # the next token reads 12 to 16
    assert cache.tables[0][0, :4].tolist()[:3] == [-1, -1, -1]
    assert cache.pools[0].free == 8


WINDOW = CacheGroup(kind=GroupKind.WINDOW, page_size=4, pages=9, window=5)


class TestWindows:
    def cache(self, *groups: CacheGroup, slots: int = 2) -> KVCache:
        return KVCache(groups or (ROOMY[0], WINDOW), slots, 100)

    def trim(self, cache: KVCache, slot: int, length: int) -> None:
        cache.trim(np.array([slot]), np.array([length]))

    def chunks(self, cache: KVCache, text: list[int], size: int) -> list[int]:
        """Computes a text in chunks; gives the window's pages in use behind each of them."""
        path = cache.match(tokens(text))
        done, used = cache.open(0, path), []
        while done < len(text):
            done = min(done + size, len(text))
            assert cache.extend(0, done)
            cache.store(0, tokens(text[:done]), resumable=done == len(text))
            self.trim(cache, 0, done)
            used.append(cache.pools[1].in_use)
        cache.close(0)
        return used

    @pytest.mark.parametrize(
        ("window", "page", "pages"), [(1, 4, 1), (2, 4, 2), (5, 4, 2), (6, 4, 3), (24, 16, 3)]
    )
    def test_pages_of_a_window(self, window, page, pages):
        group = CacheGroup(kind=GroupKind.WINDOW, page_size=page, pages=99, window=window)
        assert group.window_pages == pages

    def test_do_not_bound_the_length(self):
        assert self.cache(ROOMY[0], WINDOW).capacity == 2000
        assert self.cache(WINDOW).capacity > 1 << 30

    def test_with_too_few_pages_for_one_do(self):
        small = CacheGroup(kind=GroupKind.WINDOW, page_size=4, pages=5, window=24)
        assert self.cache(ROOMY[0], small).capacity == 20

    def test_a_text_longer_than_the_pool_runs_through(self):
        used = self.chunks(self.cache(), PREFIX * 6, 8)
        assert len(used) == 12
        assert max(used) <= 2

    def test_nothing_is_let_go_before_it_is_due(self):
        cache = self.cache()
        cache.open(0, [])
        cache.extend(0, 16)
        for length in range(8):  # the next token reads 7 - 4 at most
            self.trim(cache, 0, length)
        assert cache.pools[1].in_use == 4
        self.trim(cache, 0, 8)
        assert cache.pools[1].in_use == 3

    def test_rows_let_go_of_a_page_that_they_share(self):
        cache = self.cache()
        run(cache, 1, PREFIX[:9])
        for slot in range(2):
            cache.open(slot, cache.match(tokens(PREFIX[:9])))
            cache.extend(slot, 20)
        cache.trim(np.array([0, 1]), np.array([20, 20]))
        cache.check()
        assert cache.pools[1].in_use == 2

    def test_only_pages_that_are_read_are_taken_of_a_larger_node(self):
        small = CacheGroup(kind=GroupKind.WINDOW, page_size=1, pages=20, window=3)
        cache = self.cache(ROOMY[0], small)
        run(cache, 0, PREFIX[:9])
        cache.open(0, cache.match(tokens(PREFIX[:9])))
        assert cache.pools[1].in_use == 2  # 6 and 7

    def test_reach_leaves_pages_for_others(self):
        cache = self.cache()
        cache.open(0, [])
        cache.extend(0, 8)
        assert (cache.reach(0), cache.reach(0, 3), cache.reach(1)) == (36, 24, 28)

    def test_a_request_fits_if_its_windows_do(self):
        cache = self.cache()
        assert cache.fits([], 90, spare=7)
        assert not cache.fits([], 90, spare=8)

    def test_a_prefix_without_its_last_pages_is_matched_up_to_where_they_are(self):
        cache = self.cache()
        run(cache, 0, PREFIX)
        path = cache.match(tokens(PREFIX * 2))
        cache.tree._empty(path[-1], 1)
        assert len(cache.match(tokens(PREFIX * 2))) == len(path) - 1

    def test_pages_that_went_are_filled_by_who_computes_them_again(self):
        cache = self.cache()
        run(cache, 0, PREFIX)
        cache.tree.evict(1, 9)
        assert cache.match(tokens(PREFIX * 2)) == []
        run(cache, 0, PREFIX)
        assert len(cache.match(tokens(PREFIX * 2))) == 4
        cache.check()

    def test_who_computes_them_again_gives_back_what_was_there(self):
        cache = self.cache()
        run(cache, 0, PREFIX)
        cache.tree.evict(1, 9)
        cache.open(0, [])
        cache.extend(0, 16)
        assert cache.pools[0].available == 500 - 4
        cache.store(0, tokens(PREFIX))
        assert (cache.pools[0].evictable, cache.pools[0].free) == (0, 496)
        cache.check()

    def test_what_a_failed_step_filled_is_forgotten(self):
        cache = self.cache()
        run(cache, 0, PREFIX)
        cache.tree.evict(1, 9)
        cache.stored = []
        cache.open(0, [])
        cache.extend(0, 16)
        cache.store(0, tokens(PREFIX))
        cache.forget(cache.stored)
        assert cache.match(tokens(PREFIX * 2)) == []

    def test_the_end_of_a_long_text_outlives_its_middle(self):
        cache = self.cache()
        text = list(range(80))
        self.chunks(cache, text, 8)
        self.chunks(cache, [1, *range(40)], 8)  # more than what is left of the pool
        assert len(cache.match(tokens(text))) == 19

    def test_a_long_text_can_be_resumed_on_the_way(self):
        full = CacheGroup(kind=GroupKind.FULL, page_size=4, pages=999)
        cache = KVCache([full, replace(WINDOW, pages=20)], 1, 4000)
        text = tokens(range(3600))
        self.chunks(cache, text.tolist(), 16)
        for left, resumed in ((3596, 3596), (2999, 2048), (2000, 1024)):
            cache.tree.evict(0, 999 - left // 4)  # the end goes first
            assert len(cache.match(text)) * 4 == resumed

    def test_a_slot_does_not_lose_pages_of_another_request_before_it(self):
        cache = self.cache()
        self.chunks(cache, list(range(40)), 8)
        cache.open(0, [])
        self.trim(cache, 0, 0)
        assert cache.due[0] == 8
        cache.close(0)
        assert cache.due[0] > 1 << 30


def test_forget_takes_a_failed_step_out_of_the_tree():
    cache = KVCache(FULL, 1, LONGEST)
    cache.open(0, [])
    cache.extend(0, 9)
    cache.store(0, tokens(PREFIX[:9]))
    cache.forget(cache.stored)
    assert cache.match(tokens(PREFIX[:9])) == []
    cache.check()


class TestStates:
    def cache(self, pages: int) -> KVCache:
        groups = [
            CacheGroup(kind=GroupKind.FULL, page_size=4, pages=20),
            CacheGroup(kind=GroupKind.STATE, page_size=1, pages=pages),
        ]
        return KVCache(groups, 2, LONGEST)

    def save(self, cache: KVCache) -> None:
        """A request that saves its state at 8 tokens."""
        cache.open(0, [])
        cache.extend(0, 8)
        cache.store(0, tokens(PREFIX[:8]))
        cache.save_states(0, 8)
        cache.close(0)
        cache.copies = []

    def test_are_resumed_where_they_were_saved(self):
        cache = self.cache(3)
        self.save(cache)
        assert len(cache.match(tokens(PREFIX))) == 2

    def test_are_not_resumed_elsewhere(self):
        cache = self.cache(3)
        self.save(cache)
        assert cache.match(tokens(PREFIX[:8])) == []

    def test_a_saved_one_is_copied_for_the_next_request(self):
        cache = self.cache(3)
        self.save(cache)
        path = cache.match(tokens(PREFIX))
        cache.open(0, path)
        assert cache.copies == [(1, int(path[-1].pages[1][0]), int(cache.tables[1][0, 0]))]

    def test_making_room_does_not_evict_the_one_that_is_resumed(self):
        cache = self.cache(2)
        self.save(cache)
        for slot in range(2):
            path = cache.match(tokens(PREFIX))
            if cache.fits(path, 16):
                cache.open(slot, path)
                assert len(cache.copies) == slot + 1
        cache.check()

    def test_what_a_failed_step_would_have_saved_is_forgotten(self):
        cache = self.cache(3)
        cache.open(0, [])
        cache.extend(0, 8)
        cache.store(0, tokens(PREFIX[:8]))
        cache.stored = []  # that step worked
        cache.save_states(0, 8)
        cache.forget(cache.stored)
        assert cache.match(tokens(PREFIX)) == []
