"""The fault table, on the simulated accelerator: what a user of `LLM` sees when the device breaks.

Every test ends with the invariants, all pages free or cached, and an engine that answers rightly.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from inferplane import LLM
from inferplane.errors import EngineDead
from inferplane.params import SamplingParams

pytestmark = pytest.mark.ci(platforms=["sim"], suite="unit", est_seconds=12)

PROMPTS = [f"{a}+{b}=" for a, b in ((12, 30), (7, 8), (99, 1), (250, 250), (3, 4), (81, 9))]
PARAMS = SamplingParams(temperature=0.0, max_tokens=12)
SETTINGS = {
    "device": "sim",
    "dtype": "float32",
    "max_num_seqs": 3,
    "num_pages": 24,
    "max_num_batched_tokens": 64,
}


@pytest.fixture(scope="module")
def module_llm() -> Iterator[LLM]:
    with LLM("tiny-arithmetic", check_numerics=True, **SETTINGS) as llm:
        yield llm


@pytest.fixture(scope="module")
def answers(module_llm) -> list[str]:
    """Without faults. The right ones, since the model can add."""
    return [o.outputs[0].text for o in module_llm.generate(PROMPTS, PARAMS)]


@pytest.fixture
def llm(module_llm, answers) -> Iterator[LLM]:
    from inferplane_sim import faults

    before = dict(module_llm.engine.stats.faults)
    module_llm.new_faults = lambda: {
        kind: count - before.get(kind, 0)
        for kind, count in module_llm.engine.stats.faults.items()
        if count != before.get(kind, 0)
    }
    yield module_llm
    faults.clear()
    module_llm.engine.scheduler.pace.tokens = module_llm.engine.scheduler.pace.most
    check(module_llm)
    assert [o.outputs[0].text for o in module_llm.generate(PROMPTS, PARAMS)] == answers
    check(module_llm)


def check(llm: LLM) -> None:
    """Everything adds up, once what was launched for requests that have ended is done."""
    llm.check_invariants()
    while llm.engine.unfinished:
        llm.engine.step()
    llm.check_invariants()
    assert all(pool.available == pool.size for pool in llm.engine.cache.pools)


def ask(llm: LLM, params: SamplingParams = PARAMS) -> list:
    return [output.outputs[0] for output in llm.generate(PROMPTS, params)]


@pytest.fixture
def inject():
    from inferplane_sim import faults

    return faults.inject


@pytest.mark.parametrize("at", [1, 60])
def test_out_of_memory_costs_time_but_no_answer(llm, answers, inject, at):
    inject("oom", at=at)
    preempted = llm.engine.scheduler.preemptions
    assert [found.text for found in ask(llm)] == answers
    assert llm.new_faults() == {"memory": 1}
    assert llm.engine.scheduler.preemptions > preempted


def test_out_of_memory_that_stays_refuses_every_request_with_numbers(llm, inject):
    with inject("oom", every=1):
        found = ask(llm)
    assert {f.finish_reason for f in found} == {"error"}
    assert all("tries gave no token" in f.error and "GiB are free" in f.error for f in found)


@pytest.mark.parametrize("at", [1, 40, 300])
def test_a_kernel_error_ends_the_requests_of_its_step_only(llm, answers, inject, at):
    inject("kernel", at=at)
    found = ask(llm)
    failed = [f for f in found if f.finish_reason == "error"]
    assert 1 <= len(failed) <= SETTINGS["max_num_seqs"]
    assert all("injected fault 'kernel'" in f.error for f in failed)
    right = [(f.text, text) for f, text in zip(found, answers, strict=True) if f not in failed]
    assert right and all(text == wanted for text, wanted in right)
    assert llm.new_faults() == {"kernel": 1}


def test_a_kernel_error_in_a_chunk_that_samples_nothing_ends_that_step(inject):
    """Such a step reads nothing back, so without a wait the error would show in a later one, and
    its pages would stay in the cache."""
    prompt, params = [{"prompt_token_ids": [49] * 300}], SamplingParams(max_tokens=2)
    with LLM("tiny-arithmetic", **SETTINGS) as llm:
        inject("kernel", at=20)
        assert llm.generate(prompt, params)[0].outputs[0].finish_reason == "error"
        assert llm.engine.stats.steps <= llm.engine.executor.depth
        assert llm.generate(prompt, params)[0].num_cached_tokens == 0
        check(llm)


def test_numbers_that_are_not_finite_end_their_requests_with_the_position(llm, answers, inject):
    inject("nan", at=25)
    found = ask(llm)
    failed = [f for f in found if f.finish_reason == "error"]
    assert failed and all("not finite at position" in f.error for f in failed)
    assert all("first seen" in f.error for f in failed)
    right = [(f.text, text) for f, text in zip(found, answers, strict=True) if f not in failed]
    assert right and all(text == wanted for text, wanted in right)
    assert llm.new_faults() == {"numerics": len(failed)}


def test_one_fault_after_the_other_leaves_an_engine_that_works(llm, inject):
    inject("kernel", every=211)
    inject("oom", every=173)
    inject("nan", every=307)
    for _ in range(4):
        assert all(f.finish_reason in ("stop", "length", "error") for f in ask(llm))
        check(llm)
    assert set(llm.new_faults()) == {"kernel", "memory", "numerics"}


LOSE = """
import sys
from inferplane import LLM
from inferplane.errors import EngineDead
from inferplane.params import SamplingParams
from inferplane_sim import faults

llm = LLM("tiny-arithmetic", device="sim", dtype="float32", num_pages=24, max_num_seqs=3)
faults.inject("lost", at=30)
for _ in range(2):
    try:
        llm.generate(["12+30=", "1+1="], SamplingParams(temperature=0.0))
    except EngineDead as error:
        print("dead:", error)
llm.check_invariants()
assert llm.engine.unfinished == 0
assert all(pool.available == pool.size for pool in llm.engine.cache.pools)
print("says:", llm.dead)
"""


def test_a_lost_device_ends_the_engine_and_says_so_ever_after():
    """In a process of its own: a lost device stays lost."""
    done = subprocess.run([sys.executable, "-c", LOSE], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["dead", "dead", "says"]
    assert all("the device is lost" in line for line in lines)


def test_engine_dead_is_shown_without_a_traceback():
    from inferplane.errors import UserError

    assert issubclass(EngineDead, UserError)
