"""Steps that are scheduled while the device runs, and decode steps replayed as graphs.

On this device a wrong or missing synchronisation is wrong data, every time.
"""

import random

import pytest
from inferplane_sim import copies

from inferplane import LLM, SamplingParams

pytestmark = pytest.mark.ci(platforms=["sim"], suite="plugins", est_seconds=40)


def prompts(count: int) -> list[dict[str, list[int]]]:
    rng = random.Random(3)
    digits = [ord(c) for c in "0123456789+="]
    shared = [rng.choice(digits) for _ in range(130)]
    made = []
    for index in range(count):
        own = [rng.choice(digits) for _ in range(rng.choice([1, 5, 40, 140]))]
        made.append({"prompt_token_ids": (shared if index % 3 == 0 else []) + own})
    return made


ASKED = [
    SamplingParams(temperature=0.0, max_tokens=9, ignore_eos=True),
    SamplingParams(temperature=0.9, top_p=0.9, seed=7, max_tokens=6, ignore_eos=True),
    SamplingParams(temperature=0.0, max_tokens=4, logprobs=2),
    SamplingParams(temperature=0.0, max_tokens=8, repetition_penalty=1.5, ignore_eos=True),
    SamplingParams(temperature=0.7, seed=1, max_tokens=7, frequency_penalty=0.5),
    SamplingParams(temperature=0.0, max_tokens=3, prompt_logprobs=1),
    SamplingParams(temperature=0.0, max_tokens=30),  # ends by itself
]


def answers(device: str, **settings: object) -> list[object]:
    llm = LLM("tiny-arithmetic", device=device, dtype="float32", page_size=128, **settings)
    with llm:
        asked = prompts(11)
        outputs = llm.generate(asked, [ASKED[i % len(ASKED)] for i in range(len(asked))])
        llm.check_invariants()
        found = []
        for output in outputs:
            best = output.outputs[0]
            ranks = [[lp.rank for lp in entry.values()] for entry in best.logprobs or []]
            found.append((best.token_ids, best.finish_reason, ranks))
        return found


@pytest.fixture(scope="module")
def expected():
    return answers("cpu")


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("overlap", [False, True])
def test_answers_are_those_of_the_cpu(overlap, graphs, expected):
    assert answers("sim", overlap=overlap, graphs=graphs, max_num_seqs=4) == expected


@pytest.mark.parametrize("overlap", [False, True])
def test_preemption(overlap, expected):
    assert answers("sim", overlap=overlap, num_pages=6, max_num_seqs=5) == expected


def test_chunks_of_prompts_between_decodes(expected):
    assert answers("sim", max_num_batched_tokens=48, max_num_seqs=6) == expected


def test_two_steps_are_launched_before_the_first_is_read():
    with LLM("tiny-arithmetic", device="sim") as llm:
        assert llm.engine.executor.depth == 2
    with LLM("tiny-arithmetic", device="sim", overlap=False) as llm:
        assert llm.engine.executor.depth == 1
    with LLM("tiny-arithmetic", device="cpu", overlap=True) as llm:
        assert llm.engine.executor.depth == 1  # the CPU has no events


@pytest.mark.parametrize("graphs", [False, True])
def test_steps_copy_from_page_locked_memory_without_waiting(graphs, monkeypatch):
    seen, real = [], copies._from_host

    def watched(target, source, blocking):
        if source.dim():  # a number goes with the launch
            seen.append((copies.is_pinned(source), blocking))
        real(target, source, blocking)

    with LLM("tiny-arithmetic", device="sim", graphs=graphs, max_num_seqs=4) as llm:
        monkeypatch.setattr(copies, "_from_host", watched)
        llm.generate(prompts(6), ASKED[:4] + ASKED[:2])
    assert len(seen) > 20
    assert set(seen) == {(True, False)}


def test_decode_steps_are_replayed_and_captured_once_for_each_size():
    with LLM("tiny-arithmetic", device="sim", max_num_seqs=4) as llm:
        asked = prompts(4)
        params = SamplingParams(temperature=0.0, max_tokens=20, ignore_eos=True)
        llm.generate(asked, params)
        graphs = llm.engine.executor.runner.graphs
        assert graphs.replays >= 17
        captured = dict(graphs._captured)
        llm.generate(asked, params)
        assert graphs._captured == captured


def test_a_capture_that_fails_leaves_the_engine_at_work(monkeypatch, expected):
    from inferplane_sim.graphs import Graphs

    def fail(self: object, run: object) -> None:
        raise RuntimeError("no memory for graphs")

    monkeypatch.setattr(Graphs, "capture", fail)
    assert answers("sim", max_num_seqs=4) == expected
