"""Steps before the first request."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferplane import LLM, SamplingParams
from inferplane.activity import Activity, Board
from inferplane.batch import StepResult
from inferplane.engine.warm_up import batches, prompts, warm_up
from inferplane.errors import UserError
from inferplane.executor.base import Done
from inferplane.planning.effective import Effective, Value
from inferplane.spec import Fault

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=10)

POOLS = st.lists(st.tuples(st.sampled_from([1, 3, 16, 128]), st.integers(1, 40)), min_size=1)
SIZES = st.integers(1, 300)


def pages_of(count: int, page: int) -> int:
    return -(-count // page)


@given(rows=SIZES, tokens=SIZES, length=st.integers(2, 300), pools=POOLS)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_batches_are_within_every_limit(rows, tokens, length, pools):
    for batch in batches(rows, tokens, length, pools):
        assert 1 <= len(batch.slots) <= rows
        assert batch.tokens <= tokens
        assert batch.counts.max() < length  # the token that it yields has a place
        assert batch.decodes in (0, len(batch.slots))
        for (group, slots, columns, pages), (page, most) in zip(batch.updates, pools, strict=True):
            assert pools[group] == (page, most)
            assert len(set(pages.tolist())) == len(pages) <= most
            held = [pages_of(int(count), page) for count in batch.counts]
            assert np.bincount(slots).tolist() == held
            assert columns.max() < max(held)


def test_the_largest_prefill_takes_all_the_tokens_that_a_step_may_have():
    assert prompts(64, 2048, 1023, [(16, 1000)]) == [1023, 1023, 2]


@pytest.mark.parametrize("pools", [[(16, 10)], [(16, 1000), (8, 20)]])
def test_it_takes_what_the_smallest_pool_holds(pools):
    assert prompts(4, 2048, 1023, pools) == [160]


def test_decodes_are_of_as_many_rows_as_may_run():
    _, *greedy, drawn = batches(24, 2048, 100, [(16, 1000)])
    assert [batch.decodes for batch in greedy] == [24, 16, 8, 4, 2, 1]  # graphs: largest first
    assert drawn.decodes == 24
    assert [batch.new[0].sampling is None for batch in (greedy[0], drawn)] == [True, False]


def plan(**changes: Any) -> Any:
    values = {
        "max_num_seqs": 4,
        "max_num_batched_tokens": 64,
        "max_model_len": 32,
        "memory_fraction": 0.9,
    }
    return SimpleNamespace(
        effective=Effective({k: Value(v, "test") for k, v in (values | changes).items()}),
        groups=[SimpleNamespace(page_size=16)],
        budget=SimpleNamespace(pages=(20,)),
    )


class Executor:
    """Raises `error` in the launch of this number. fault: what kind the error is."""

    def __init__(self, at: int = -1, fault: Fault = Fault.KERNEL) -> None:
        self.at, self.kind = at, fault
        self.launched: list[int] = []

    def launch(self, batch: Any) -> Any:
        self.launched.append(batch.tokens)
        error = RuntimeError("no room\nat all") if len(self.launched) - 1 == self.at else None
        return Done(StepResult(tokens=np.zeros(0), counts=np.zeros(0)), error)

    def fault(self, error: BaseException) -> Fault:
        return self.kind


def test_all_batches_are_run():
    executor = Executor()
    warm_up(plan(), executor, Activity(Board(1)))
    assert executor.launched == [64, 4, 2, 1, 4]


def test_a_step_that_does_not_fit_says_what_to_lower():
    with pytest.raises(UserError) as raised:
        warm_up(plan(), Executor(0, Fault.MEMORY), Activity(Board(1)))
    text = str(raised.value)
    assert "a step of 3 requests and 64 tokens does not fit" in text
    assert "(no room)" in text
    assert "--max-num-batched-tokens (64)" in text
    assert "--memory-fraction (0.9)" in text


def test_other_errors_are_the_kernels_own():
    with pytest.raises(RuntimeError, match="no room"):
        warm_up(plan(), Executor(1, Fault.KERNEL), Activity(Board(1)))


def test_watchdogs_do_not_count_the_time(monkeypatch):
    activity, seen = Activity(Board(1)), []

    class Slow(Executor):
        def launch(self, batch):
            activity.begin(batch.step)
            seen.append(activity.progress)
            activity.end()
            return super().launch(batch)

    warm_up(plan(), Slow(), activity)
    assert seen
    assert set(seen) == {None}
    activity.begin(1)
    assert activity.progress is not None


@pytest.mark.parametrize("asked", [True, None])
def test_graphs_that_were_asked_for_and_cannot_be_captured_are_an_error(asked, monkeypatch):
    pytest.importorskip("inferplane_sim")

    def full(self, run):
        raise RuntimeError("the pool is full")

    monkeypatch.setattr("inferplane_sim.graphs.Graphs.capture", full)
    given = {"device": "sim", "warm_up": True, "max_num_seqs": 4, "graphs": asked}
    if asked:
        with pytest.raises(UserError, match=r"--graphs was asked for, .*the pool is full"):
            LLM("tiny-arithmetic", **given)
        return
    with LLM("tiny-arithmetic", **given) as llm:  # answers all the same
        assert llm.engine.executor.runner.graphs.failed


@pytest.mark.parametrize("device", ["cpu", "sim"])
def test_answers_are_the_same_afterwards(device):
    asked = ["417+286=", "1+1="]
    found = []
    for warm in (False, True):
        with LLM("tiny-arithmetic", device=device, warm_up=warm, max_num_seqs=4) as llm:
            outputs = llm.generate(asked, SamplingParams(temperature=0.0, max_tokens=6))
            found.append([output.outputs[0].text for output in outputs])
            llm.check_invariants()
            graphs = llm.engine.executor.runner.graphs
            assert graphs is None or (4 in graphs._captured) == warm
    assert found[0] == found[1]
    assert found[0][0].startswith("703")


def test_windows_are_warmed_up_too(make_llm):
    llm = make_llm("mistral", warm_up=True, max_num_seqs=3, max_num_batched_tokens=64)
    llm.generate([{"prompt_token_ids": [1, 2, 3]}], SamplingParams(max_tokens=2))
    llm.check_invariants()
