"""Whatever comes in whatever order, every request gets the tokens that it would get alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from tests.fakes.executor import VOCAB, FakeExecutor, Loop, expected
from tests.fakes.kv import GROUPS

from inferplane.cache.manager import KVCache
from inferplane.scheduler.policy import POLICIES
from inferplane.scheduler.request import Finish, Request
from inferplane.scheduler.scheduler import Scheduler
from inferplane.spec import GroupKind

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="property", est_seconds=6)

SLOTS, LONGEST = 4, 28
PREFIX = [0, 1, 5, 2, 0, 3, 3, 1, 4, 4, 0, 2, 1, 5, 5, 3]
TOKEN = st.integers(0, VOCAB - 1)


class SchedulerMachine(RuleBasedStateMachine):
    @initialize(
        groups=st.sampled_from(sorted(GROUPS)),
        policy=st.sampled_from(sorted(POLICIES)),
        depth=st.integers(1, 2),
        budget=st.sampled_from([4, 7, 32]),
        caching=st.sampled_from([True, True, False]),
    )
    def start(self, groups, policy, depth, budget, caching):
        cache = KVCache(GROUPS[groups], SLOTS, LONGEST, caching)
        self.scheduler = Scheduler(
            cache, POLICIES[policy](), max_seqs=SLOTS, budget=budget, max_length=LONGEST
        )
        self.budget, self.depth = budget, depth
        self.longest = min(LONGEST, cache.capacity)
        self.loop = Loop(self.scheduler, FakeExecutor(GROUPS[groups], SLOTS, LONGEST), depth)
        self.wanted: dict[str, list[int]] = {}
        self.aborted: set[str] = set()

    @rule(
        shared=st.sampled_from([0, 5, 9, 12, 16]),
        own=st.lists(TOKEN, min_size=1, max_size=6),
        most=st.integers(1, 12),
        least=st.integers(0, 2),
        stop=st.sets(TOKEN, max_size=1),
        priority=st.integers(0, 2),
        namespace=st.sampled_from(["", "", "", "a"]),
        wants_prompt=st.sampled_from([False, False, True]),
    )
    def add(self, shared, own, most, least, stop, priority, namespace, wants_prompt):
        prompt = PREFIX[:shared] + own
        request = Request(
            id=str(len(self.wanted)),
            tokens=np.array(prompt),
            max_tokens=most,
            min_tokens=least,
            stop_ids=tuple(stop),
            priority=priority,
            namespace=namespace,
            sampling=namespace,
            wants_prompt=wants_prompt,
        )
        self.wanted[request.id] = expected(request, prompt, self.longest)
        self.scheduler.add(request)

    @precondition(lambda self: self.scheduler.unfinished)
    @rule(count=st.integers(1, 6))
    def step(self, count):
        for _ in range(count):
            self.loop.step()

    @precondition(lambda self: self.open())
    @rule(pick=st.integers(0, 9))
    def abort(self, pick):
        id = self.open()[pick % len(self.open())]
        assert self.scheduler.abort(id)
        self.aborted.add(id)

    @precondition(lambda self: self.loop.pending)
    @rule()
    def fail_what_is_launched(self):
        self.loop.fail()

    @precondition(lambda self: self.scheduler.unfinished and not self.loop.pending)
    @rule()
    def fail_a_step(self):
        batch = self.scheduler.schedule()
        if batch is not None:
            executor = self.loop.executor
            self.loop.pending.append((executor.run(batch), executor.written))
            self.loop.fail()

    @precondition(lambda self: self.loop.pending)
    @rule()
    def what_is_launched_does_not_fit(self):
        self.loop.retreat()

    @precondition(lambda self: self.scheduler.unfinished and not self.loop.pending)
    @rule(grow=st.booleans())
    def a_step_does_not_fit(self, grow):
        batch = self.scheduler.schedule()
        if batch is not None:
            executor = self.loop.executor
            self.loop.pending.append((executor.run(batch), executor.written))
            self.loop.retreat()
        if grow:
            self.scheduler.pace.tokens = self.budget

    @precondition(lambda self: self.scheduler.unfinished and not self.loop.pending)
    @rule(pick=st.integers(0, 3))
    def a_row_is_wrong(self, pick):
        batch = self.scheduler.schedule()
        if batch is not None:
            executor = self.loop.executor
            result = executor.run(batch)
            result.errors[pick % len(batch.slots)] = "not finite"
            self.loop.take(self.scheduler.commit(result))

    @invariant()
    def everything_adds_up(self):
        self.scheduler.check_invariants()
        assert self.loop.executor.most_tokens <= self.budget

    @invariant()
    def a_window_holds_no_more_than_it_reads_and_what_steps_add(self):
        cache = self.scheduler.cache
        for group, spec in enumerate(cache.groups):
            if spec.kind is GroupKind.WINDOW:
                most = spec.window_pages + -(-self.depth * self.budget // spec.page_size)
                assert (cache.held[group] - cache.first[group] <= most).all()

    @invariant()
    def tokens_so_far_are_right(self):
        for id, tokens in self.loop.tokens.items():
            assert tokens == self.wanted[id][: len(tokens)], id

    def teardown(self):
        if not hasattr(self, "loop"):
            return
        self.loop.drain()
        assert set(self.loop.finished) | self.aborted == set(self.wanted)
        for id, output in self.loop.finished.items():
            if output.finish is not Finish.ERROR:
                assert self.loop.tokens[id] == self.wanted[id]
        pools = self.scheduler.cache.pools
        assert all(pool.available == pool.size for pool in pools)

    def open(self):
        gone = self.loop.finished.keys() | self.aborted
        return [id for id in self.wanted if id not in gone]


SchedulerMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestAnyOrder = SchedulerMachine.TestCase
