"""Whole models on the simulated device: the tokens of the CPU."""

from __future__ import annotations

from typing import Any

import pytest
from inferplane_sim.faults import inject

from inferplane import LLM, SamplingParams

pytestmark = pytest.mark.ci(platforms=["sim"], suite="plugins", est_seconds=35)

PROMPTS = ["12+7=", "3+4=7\n58+31=", "9+9=18\n" * 20 + "40+2="]
GREEDY = SamplingParams(temperature=0.0, max_tokens=6)


EVERYTHING = SamplingParams(
    temperature=0.8,
    top_k=20,
    top_p=0.9,
    min_p=0.01,
    seed=7,
    max_tokens=6,
    logprobs=2,
    prompt_logprobs=1,
    presence_penalty=0.1,
    logit_bias={5: 1.0},
    allowed_token_ids=tuple(range(3, 300)),
)


def answers(device: str, params: SamplingParams = GREEDY, **settings: Any) -> list[tuple[int, ...]]:
    with LLM(
        model="tiny-arithmetic", device=device, dtype="float32", max_num_seqs=4, **settings
    ) as llm:
        found = [tuple(o.outputs[0].token_ids) for o in llm.generate(PROMPTS, params)]
        llm.check_invariants()
    return found


@pytest.fixture(scope="module")
def expected() -> list[tuple[int, ...]]:
    found = answers("cpu")
    assert all(found)
    return found


def test_greedy_tokens_are_those_of_the_cpu(start, expected):
    start()
    assert answers("sim") == expected


def test_with_reference_kernels_too(start, expected, monkeypatch):
    monkeypatch.setenv("SIM_KERNELS", "0")
    start()
    assert answers("sim") == expected


def test_decode_steps_are_replayed_graphs(start, expected):
    start()
    with LLM(model="tiny-arithmetic", device="sim", dtype="float32", max_num_seqs=4) as llm:
        found = [tuple(o.outputs[0].token_ids) for o in llm.generate(PROMPTS, GREEDY)]
        again = [tuple(o.outputs[0].token_ids) for o in llm.generate(PROMPTS, GREEDY)]
        graphs = llm.engine.executor.runner.graphs
        assert graphs is not None and graphs.failed == ""
        assert graphs.replays > 0
    assert found == again == expected


def test_without_graphs_too(start, expected, monkeypatch):
    monkeypatch.setenv("SIM_GRAPHS", "0")
    start()
    assert answers("sim") == expected


def test_without_asynchronous_execution_too(start, expected):
    start(asynchronous=False)
    assert answers("sim") == expected


def test_in_small_pieces_too(start, expected):
    start()
    assert answers("sim", max_num_batched_tokens=32) == expected


def test_every_way_of_sampling_gives_the_tokens_of_the_cpu(start):
    start()
    assert answers("sim", EVERYTHING) == answers("cpu", EVERYTHING)


def test_random_weights_need_no_generator_of_the_device(start):
    start()
    assert answers("sim", load_format="dummy") == answers("cpu", load_format="dummy")


def test_memory_is_free_when_the_engine_is_closed(start):
    import gc

    driver = start(memory_mb=128)
    answers("sim")
    gc.collect()
    assert driver.boards[0].memory.used == 0


def test_the_cache_fits_in_device_memory(start):
    driver = start(memory_mb=64)
    with LLM(
        model="tiny-arithmetic", device="sim", max_num_seqs=4, max_num_batched_tokens=64
    ) as llm:
        book = driver.boards[0].memory
        held = llm.plan.weight_bytes + sum(
            group.page_bytes * pages
            for group, pages in zip(llm.plan.groups, llm.plan.budget.pages, strict=True)
        )
        assert held <= book.used < 64 << 20


def test_a_failed_kernel_fails_its_requests_and_the_engine_goes_on(start, expected):
    start()
    with LLM(model="tiny-arithmetic", device="sim", dtype="float32", max_num_seqs=4) as llm:
        with inject("kernel", at=40):
            broken = llm.generate(PROMPTS[:1], GREEDY)
        assert broken[0].outputs[0].finish_reason == "error"
        found = [tuple(o.outputs[0].token_ids) for o in llm.generate(PROMPTS, GREEDY)]
        llm.check_invariants()
    assert found == expected
