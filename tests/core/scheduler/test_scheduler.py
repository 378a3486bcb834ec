"""Admission, ends, preemption, and what commit accepts."""

from __future__ import annotations

import numpy as np
import pytest
from tests.fakes.executor import expected, next_token

from inferplane.batch import StepResult
from inferplane.cache.manager import CacheGroup
from inferplane.errors import UserError
from inferplane.scheduler.request import Finish
from inferplane.spec import GroupKind

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)

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


class TestFailedSteps:
    """fail: a kernel error. retreat: out of memory. `Loop` asserts that no page holds garbage."""

    def launched(self, make_loop, make_request, depth=2):
        """A loop with one launched step a request; c waits."""
        loop = make_loop(depth=depth, slots=2)
        for id in "abc":
            loop.scheduler.add(make_request(id, [ord(id), *range(9)]))
        batch = loop.scheduler.schedule()
        loop.pending.append((loop.executor.run(batch), loop.executor.written))
        return loop

    def test_a_kernel_error_ends_the_requests_of_its_step_only(self, make_loop, make_request):
        loop = self.launched(make_loop, make_request)
        loop.fail()
        loop.drain()
        found = {id: output.finish for id, output in loop.finished.items()}
        assert found == {"a": Finish.ERROR, "b": Finish.ERROR, "c": Finish.LENGTH}

    def test_requests_of_steps_launched_behind_it_run_again(self, make_loop, make_request):
        loop = make_loop(depth=2, budget=16)
        requests = [make_request(id, [ord(id), *range(15)]) for id in "ab"]
        wanted = alone(requests[1], requests[1].tokens.tolist(), 40)
        for request in requests:
            loop.scheduler.add(request)
        for _ in range(2):  # a alone, then b with a's first new token
            batch = loop.scheduler.schedule()
            loop.pending.append((loop.executor.run(batch), loop.executor.written))
        loop.fail()
        loop.drain()
        assert loop.finished["a"].finish is Finish.ERROR
        assert loop.tokens["b"] == wanted

    def test_its_pages_do_not_stay_in_the_tree(self, make_loop, make_request):
        loop = self.launched(make_loop, make_request)
        assert loop.scheduler.cache.tree.nodes > 0
        loop.fail()
        assert loop.scheduler.cache.tree.nodes == 0

    @pytest.mark.parametrize("how", ["fail", "retreat"])
    def test_nor_do_pages_that_another_request_of_the_step_found_there(
        self, make_loop, make_request, how
    ):
        loop = make_loop()
        for id in "ab":
            loop.scheduler.add(make_request(id, list(range(10))))
        batch = loop.scheduler.schedule()
        assert batch.starts.tolist() == [0, 8]  # b computes only what a does not
        loop.pending.append((loop.executor.run(batch), loop.executor.written))
        getattr(loop, how)()
        assert loop.scheduler.cache.tree.nodes == 0

    def test_out_of_memory_ends_nothing(self, make_loop, make_request):
        loop = self.launched(make_loop, make_request)
        loop.retreat()
        assert loop.finished == {}
        loop.drain()
        assert {o.finish for o in loop.finished.values()} == {Finish.LENGTH}

    def test_out_of_memory_makes_the_next_steps_smaller(self, make_loop, make_request):
        loop = self.launched(make_loop, make_request)
        loop.retreat()
        assert loop.scheduler.schedule().tokens == 10

    def test_as_many_requests_run_as_a_step_may_have_tokens(self, make_loop, make_request):
        loop = make_loop(slots=4)
        for id in "abcd":
            loop.scheduler.add(make_request(id, max_tokens=20))
        loop.step()
        batch = loop.scheduler.schedule()
        assert batch.tokens == 4
        loop.pending.append((loop.executor.run(batch), loop.executor.written))
        loop.retreat()
        running = []
        for _ in range(8):
            loop.step()
            running.append(len(loop.scheduler.slots.order))
        assert max(running) == 2

    def fail_alone(self, loop):
        batch = loop.scheduler.schedule()
        assert batch.tokens == 1
        loop.pending.append((loop.executor.run(batch), loop.executor.written))
        loop.retreat(": too large")

    def test_a_request_of_which_no_token_fits_is_refused_after_three_tries(
        self, make_loop, make_request
    ):
        loop = make_loop()
        loop.scheduler.add(make_request("a", [1]))
        for _ in range(3):
            assert not loop.finished
            self.fail_alone(loop)
        assert loop.finished["a"].finish is Finish.ERROR
        assert loop.finished["a"].error == (
            "out of memory: 3 tries gave no token, the last one in a step of 1 requests and 1 "
            "tokens: too large"
        )

    def test_tries_count_anew_after_a_token(self, make_loop, make_request):
        loop = make_loop()
        request = make_request("a", [1])
        wanted = alone(request, [1], 40)
        loop.scheduler.add(request)
        for _ in range(2):
            self.fail_alone(loop)
        loop.step()
        self.fail_alone(loop)
        loop.drain()
        assert loop.tokens["a"] == wanted

    def test_a_request_that_never_gets_on_is_refused_in_the_end(self, make_loop, make_request):
        """Every second step fails, so that a prompt behind no full page begins anew each time."""
        loop = make_loop(pages=12, longest=40)
        loop.scheduler.add(make_request("a", list(range(30))))
        for _ in range(200):
            if loop.finished:
                break
            loop.scheduler.pace.tokens = 2
            loop.step()
            batch = loop.scheduler.schedule()
            loop.pending.append((loop.executor.run(batch), loop.executor.written))
            loop.retreat()
        assert "64 tries gave no token" in loop.finished["a"].error

    def test_a_request_that_was_aborted_meanwhile_does_not_come_back(self, make_loop, make_request):
        loop = self.launched(make_loop, make_request)
        loop.scheduler.abort("a")
        loop.retreat()
        loop.drain()
        assert "a" not in loop.finished

    def test_what_an_interrupted_launch_left_runs_again(self, make_loop, make_request):
        loop = make_loop()
        request = make_request("a", list(range(9)))
        wanted = alone(request, list(range(9)), 40)
        loop.scheduler.add(request)
        loop.scheduler.schedule()
        loop.scheduler.rewind()
        loop.drain()
        assert loop.tokens["a"] == wanted

    def test_the_end_ends_running_and_waiting_ones(self, make_loop, make_request):
        loop = self.launched(make_loop, make_request)
        outputs = loop.scheduler.end("lost")
        assert {(o.id, o.error) for o in outputs} == {(id, "lost") for id in "abc"}
        assert loop.scheduler.unfinished == 0
        loop.scheduler.check_invariants()


class TestWrongRows:
    """`StepResult.errors`: rows whose numbers cannot be used."""

    def wrong(self, loop, row, depth=1):
        batch = loop.scheduler.schedule()
        result = loop.executor.run(batch)
        result.errors[row] = "not finite"
        loop.executor.spoil(loop.executor.written)
        loop.take(loop.scheduler.commit(result))
        loop.scheduler.check_invariants()
        return batch

    def test_end_with_their_error(self, make_loop, make_request):
        loop = make_loop()
        loop.scheduler.add(make_request("a"))
        self.wrong(loop, 0)
        assert (loop.finished["a"].finish, loop.finished["a"].error) == (Finish.ERROR, "not finite")
        assert loop.tokens["a"] == []

    def test_leave_nothing_in_the_tree(self, make_loop, make_request):
        loop = make_loop()
        loop.scheduler.add(make_request("a", list(range(20)), max_tokens=1))
        self.wrong(loop, 0)
        assert loop.scheduler.cache.tree.nodes == 0

    def test_the_others_go_on(self, make_loop, make_request):
        loop = make_loop()
        requests = [make_request(id, [ord(id), 2, 3]) for id in "ab"]
        wanted = alone(requests[1], requests[1].tokens.tolist(), 40)
        for request in requests:
            loop.scheduler.add(request)
        batch = loop.scheduler.schedule()
        result = loop.executor.run(batch)
        result.errors[0] = "not finite"
        loop.take(loop.scheduler.commit(result))
        loop.drain()
        assert loop.tokens["b"] == wanted


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


class TestWindows:
    """A full group with 4 tokens a page and one with a window of 6, 2 tokens a page: 4 pages."""

    def loop(self, make_loop, window_pages: int, **options):
        window = CacheGroup(kind=GroupKind.WINDOW, page_size=2, pages=window_pages, window=6)
        return make_loop(window=window, **options)

    @pytest.mark.parametrize("depth", [1, 2])
    @pytest.mark.parametrize("pages", [4, 5, 9])
    def test_a_prompt_longer_than_the_pool_runs_through(
        self, make_loop, make_request, pages, depth
    ):
        loop = self.loop(make_loop, pages, depth=depth, longest=80)
        request = make_request("a", [i % 6 for i in range(60)], max_tokens=15)
        wanted = alone(request, request.tokens.tolist(), 80)
        loop.scheduler.add(request)
        loop.drain()
        assert loop.tokens["a"] == wanted
        assert loop.scheduler.preemptions == 0

    @pytest.mark.parametrize("depth", [1, 2])
    def test_more_requests_than_windows_wait_or_run_again(self, make_loop, make_request, depth):
        loop = self.loop(make_loop, 9, depth=depth, longest=80)
        requests = [make_request(str(i), [i, 1, 2, 3] * i, max_tokens=20) for i in range(1, 7)]
        wanted = {r.id: alone(r, r.tokens.tolist(), 80) for r in requests}
        for request in requests:
            loop.scheduler.add(request)
        loop.drain()
        assert loop.tokens == wanted

    @pytest.mark.parametrize("yields", [(3,), (2, 0, 3, 0, 1)])
    def test_several_tokens_a_step_give_the_same_output(self, make_loop, make_request, yields):
        loop = self.loop(make_loop, 6, longest=80, yields=yields)
        request = make_request("a", [i % 6 for i in range(30)], max_tokens=40)
        wanted = alone(request, request.tokens.tolist(), 80)
        loop.scheduler.add(request)
        loop.drain()
        assert loop.tokens["a"] == wanted

    def test_a_chunk_leaves_a_page_for_each_other_row(self, make_loop, make_request):
        loop = self.loop(make_loop, 12, longest=80)
        for id in "ab":
            loop.scheduler.add(make_request(id, [ord(id), 1], max_tokens=30))
        loop.step()
        loop.scheduler.add(make_request("c", list(range(50))))
        batch = loop.scheduler.schedule()
        assert batch.counts.tolist() == [1, 1, 2 * (12 - 4 - 2)]  # two more for each of a and b

    def test_the_limit_is_that_of_the_full_group(self, make_loop, make_request):
        loop = self.loop(make_loop, 4, pages=10, longest=80)
        with pytest.raises(UserError, match="the limit is 40 tokens"):
            loop.scheduler.add(make_request("a", [1] * 40))

    def test_only_rows_with_a_page_to_give_back_do_work(self, make_loop, make_request):
        loop = self.loop(make_loop, 40, longest=80, slots=4)
        for id in "abc":
            loop.scheduler.add(make_request(id, [ord(id)] * (3 * ord(id) % 5 + 1), max_tokens=40))
        given = []
        while loop.scheduler.unfinished:
            loop.step()
            given += [rows for g, rows, _, new in loop.scheduler.cache.updates if (new < 0).any()]
        assert given
        assert max(len(rows) for rows in given) <= 3
        assert sum(map(len, given)) <= 3 * 22  # a page of 2 tokens each: no row twice for one


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
