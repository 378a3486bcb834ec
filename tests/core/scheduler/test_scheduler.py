"""Admission, ends, preemption, and what commit accepts."""

from __future__ import annotations

import numpy as np
import pytest
from tests.fakes.executor import expected, next_token

from inferplane.batch import StepResult
from inferplane.errors import UserError
from inferplane.scheduler.request import Finish

PROMPT = [1, 2, 3]


def alone(request, prompt=PROMPT, longest=40):
    return expected(request, prompt, longest)


class TestRefused:
    @pytest.mark.parametrize("length", [0, 40])
    def test_a_prompt_that_is_empty_or_too_long(self, make_loop, make_request, length):
        with pytest.raises(UserError, match=f"the prompt has {length} tokens.* 1 to 39"):
            make_loop().scheduler.add(make_request("a", [1] * length))

    def test_a_prompt_that_the_cache_could_never_hold(self, make_loop, make_request):
        with pytest.raises(UserError, match="the limit is 8 tokens"):
            make_loop(pages=2).scheduler.add(make_request("a", [1] * 8))

    def test_too_many_stop_ids(self, make_loop, make_request):
        with pytest.raises(UserError, match="17 stop token ids; 16 at most"):
            make_loop().scheduler.add(make_request("a", stop_ids=tuple(range(17))))

    def test_no_token_to_generate(self, make_loop, make_request):
        with pytest.raises(UserError, match="max_tokens is 0"):
            make_loop().scheduler.add(make_request("a", max_tokens=0))

    def test_a_budget_below_the_number_of_slots(self, make_loop):
        with pytest.raises(UserError, match="max_num_batched_tokens is 3"):
            make_loop(slots=4, budget=3)


class TestEnds:
    def test_after_max_tokens(self, make_loop, make_request):
        loop = make_loop()
        loop.scheduler.add(make_request("a", max_tokens=5))
        loop.drain()
        assert len(loop.tokens["a"]) == 5
        assert loop.finished["a"].finish is Finish.LENGTH

    def test_at_the_longest_length(self, make_loop, make_request):
        loop = make_loop(longest=10)
        loop.scheduler.add(make_request("a", max_tokens=99))
        loop.drain()
        assert len(loop.tokens["a"]) == 7

    def test_at_a_stop_id(self, make_loop, make_request):
        loop = make_loop()
        loop.scheduler.add(make_request("a", max_tokens=9, stop_ids=(next_token(PROMPT),)))
        loop.drain()
        assert loop.tokens["a"] == [next_token(PROMPT)]
        assert loop.finished["a"].finish is Finish.STOP

    def test_not_before_min_tokens(self, make_loop, make_request):
        loop = make_loop()
        every = tuple(range(6))
        loop.scheduler.add(make_request("a", max_tokens=9, min_tokens=3, stop_ids=every))
        loop.drain()
        assert len(loop.tokens["a"]) == 4

    def test_on_abort_without_an_output(self, make_loop, make_request):
        loop = make_loop()
        loop.scheduler.add(make_request("a"))
        loop.step()
        assert loop.scheduler.abort("a")
        assert loop.scheduler.unfinished == 0
        assert "a" not in loop.finished

    def test_an_unknown_id_cannot_be_aborted(self, make_loop):
        assert not make_loop().scheduler.abort("nobody")

    def test_pages_of_an_aborted_row_in_flight_are_not_free_before_its_commit(
        self, make_loop, make_request
    ):
        loop = make_loop(depth=2)
        loop.scheduler.add(make_request("a"))
        loop.step()
        loop.scheduler.abort("a")
        free = loop.scheduler.cache.pools[0].free
        loop.drain()
        assert loop.scheduler.cache.pools[0].free == free + 1

    def test_with_an_error_when_its_step_fails(self, make_loop, make_request):
        loop = make_loop()
        loop.scheduler.add(make_request("a"))
        loop.scheduler.schedule()
        (output,) = loop.scheduler.fail("kernel broke")
        assert (output.finish, output.error) == (Finish.ERROR, "kernel broke")
        loop.scheduler.check_invariants()


class TestBatches:
    def test_a_long_prompt_is_cut_by_the_budget(self, make_loop, make_request):
        scheduler = make_loop(budget=8).scheduler
        scheduler.add(make_request("a", list(range(1, 21))))
        batch = scheduler.schedule()
        assert batch.counts.tolist() == [8]
        assert not batch.sample[0]

    def test_decodes_come_first(self, make_loop, make_request):
        loop = make_loop()
        loop.scheduler.add(make_request("a"))
        loop.step()
        loop.scheduler.add(make_request("b", [4, 5, 6, 7]))
        batch = loop.scheduler.schedule()
        assert batch.counts.tolist() == [1, 4]
        assert batch.decodes == 1

    def test_nothing_to_do_is_no_batch(self, make_loop):
        assert make_loop().scheduler.schedule() is None

    def test_a_shared_prefix_is_computed_once(self, make_loop, make_request):
        loop = make_loop()
        prompt = list(range(1, 10))
        loop.scheduler.add(make_request("a", prompt))
        loop.drain()
        loop.scheduler.add(make_request("b", prompt))
        batch = loop.scheduler.schedule()
        assert batch.starts.tolist() == [8]

    def test_prompt_log_probabilities_take_nothing_from_the_cache(self, make_loop, make_request):
        loop = make_loop()
        prompt = list(range(1, 10))
        loop.scheduler.add(make_request("a", prompt))
        loop.drain()
        loop.scheduler.add(make_request("b", prompt, wants_prompt=True))
        assert loop.scheduler.schedule().starts.tolist() == [0]


class TestPreemption:
    @pytest.mark.parametrize("depth", [1, 2])
    def test_a_tiny_pool_still_finishes_everything(self, make_loop, make_request, depth):
        loop = make_loop(pages=8, depth=depth, longest=32)
        requests = [make_request(str(i), [i, 1, 2], max_tokens=20) for i in range(5)]
        wanted = {r.id: alone(r, r.tokens.tolist(), 32) for r in requests}
        for request in requests:
            loop.scheduler.add(request)
        loop.drain()
        assert loop.scheduler.preemptions > 0
        assert loop.tokens == wanted

    def test_takes_the_one_that_was_admitted_last(self, make_loop, make_request):
        loop = make_loop(pages=6, longest=24)
        requests = [make_request(i, [ord(i), 1, 2], max_tokens=18) for i in "abc"]
        for request in requests:
            loop.scheduler.add(request)
        while not loop.scheduler.preemptions:
            loop.step()
        assert [r.preemptions for r in requests] == [0, 0, 1]

    @pytest.mark.parametrize("depth", [1, 2])
    def test_an_urgent_request_takes_a_slot(self, make_loop, make_request, depth):
        loop = make_loop(policy="priority", slots=1, depth=depth)
        loop.scheduler.add(make_request("slow", priority=5, max_tokens=9))
        loop.step()
        loop.scheduler.add(make_request("urgent", [4, 4], priority=1, max_tokens=9))
        loop.drain()
        assert loop.order == ["urgent", "slow"]

    def test_an_equally_urgent_one_waits(self, make_loop, make_request):
        loop = make_loop(policy="priority", slots=1)
        loop.scheduler.add(make_request("first", priority=1, max_tokens=9))
        loop.step()
        loop.scheduler.add(make_request("second", [4, 4], priority=1, max_tokens=9))
        loop.drain()
        assert loop.order == ["first", "second"]

    def test_a_policy_without_preemption_waits_for_a_slot(self, make_loop, make_request):
        loop = make_loop(policy="fcfs", slots=1)
        loop.scheduler.add(make_request("first", priority=5))
        loop.step()
        loop.scheduler.add(make_request("second", [4, 4], priority=1))
        loop.drain()
        assert loop.order == ["first", "second"]

    def test_finds_what_was_computed_in_the_cache(self, make_loop, make_request):
        loop = make_loop(policy="priority", slots=1)
        slow = make_request("slow", list(range(1, 10)), priority=5, max_tokens=9)
        loop.scheduler.add(slow)
        loop.step()
        loop.scheduler.add(make_request("urgent", [4, 4], priority=1, max_tokens=2))
        starts = []
        while not loop.finished.get("slow"):
            batch = loop.scheduler.schedule()
            starts += [int(batch.starts[-1]) for row in batch.new if len(row.tokens) > 8]
            loop.take(loop.scheduler.commit(loop.executor.run(batch)))
        assert starts == [8]


class TestSeveralTokensAStep:
    @pytest.mark.parametrize("yields", [(2,), (3,), (1, 3, 2, 1), (0, 1), (2, 0, 3, 0, 1)])
    def test_give_the_same_output(self, make_loop, make_request, yields):
        loop = make_loop(yields=yields)
        request = make_request("a", max_tokens=11)
        loop.scheduler.add(request)
        loop.drain()
        assert loop.tokens["a"] == alone(request)

    def test_behind_a_stop_id_are_dropped(self, make_loop, make_request):
        loop = make_loop(yields=(5,))
        stop = next_token([*PROMPT, next_token(PROMPT)])
        request = make_request("a", max_tokens=9, min_tokens=1, stop_ids=(stop,))
        loop.scheduler.add(request)
        loop.drain()
        assert loop.tokens["a"] == alone(request)
        assert len(loop.tokens["a"]) == 2

    def test_behind_max_tokens_are_dropped(self, make_loop, make_request):
        loop = make_loop(yields=(5,))
        loop.scheduler.add(make_request("a", max_tokens=3))
        loop.drain()
        assert len(loop.tokens["a"]) == 3

    def test_differ_from_row_to_row(self, make_loop, make_request):
        loop = make_loop()
        loop.scheduler.add(make_request("a", max_tokens=3))
        loop.scheduler.add(make_request("b", [4, 5], max_tokens=3))
        loop.scheduler.schedule()
        result = StepResult(tokens=np.array([7, 8], np.int32), counts=np.array([0, 2], np.int32))
        (output,) = loop.scheduler.commit(result)
        assert (output.id, output.tokens) == ("b", [7, 8])


def test_what_is_not_known_yet_never_becomes_a_prefix(make_loop, make_request):
    """When "b" gets no page and both are in flight, "a" goes on alone: the end of its second page
    is a token that the launched step is still to yield."""
    loop = make_loop(pages=4, slots=2, depth=2, longest=16)
    prompts = {"a": [1, 2, 3], "b": [3, 4, 5, 6]}
    requests = [make_request(id, prompt, max_tokens=12) for id, prompt in prompts.items()]
    right = [prompts[r.id] + alone(r, prompts[r.id], 16) for r in requests]
    for request in requests:
        loop.scheduler.add(request)
    while loop.scheduler.unfinished:
        loop.step()
        for text in stored_texts(loop.scheduler.cache.tree):
            assert text in [tokens[: len(text)] for tokens in right]


def stored_texts(tree) -> list[list[int]]:
    """The tokens of every path in the tree."""
    texts = []
    for node in tree.walk():
        keys = []
        while node.parent is not None:
            keys.insert(0, node.key)
            node = node.parent
        texts.append(np.frombuffer(b"".join(keys), np.int32).tolist())
    return texts
