"""Greedy tokens are those of transformers, whatever the page, chunk, cache, batch and pool."""

from itertools import product
from typing import Any

import pytest

from inferplane.params import SamplingParams

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="models", est_seconds=96)

GAP = 1e-3  # transformers' two best logits are further apart at every step
GREEDY = SamplingParams(temperature=0.0, max_tokens=64, ignore_eos=True)
PAGES = (1, 16, 128)
CHUNKS = ((7, 1), (7, 7), (64, 1), (64, 24), (4096, 1), (4096, 24))  # tokens a step, requests
SMALL_POOL = {1: 240, 16: 15, 128: 3}  # pages: fewer than the running requests come to need
FULL = "qwen3"
OTHERS = (
    "llama",
    "llama-tied",
    "llama-one-kv-head",
    "llama-head-size",
    "llama-biased",
    "llama-llama3-rope",
    "llama-linear-rope",
    "llama-yarn-rope",
    "mistral",
    "qwen2",
    "qwen2-windows",
    "qwen3-untied",
)
SAMPLED = (  # for the other checkpoints: page, (chunk, requests), cache, small pool
    (16, (64, 24), True, True),
    (1, (7, 7), True, False),
    (128, (4096, 24), False, True),
)


def everything() -> list[tuple[int, tuple[int, int], bool, bool]]:
    """One request at a time never preempts, so it has no small pool."""
    combinations = product(PAGES, CHUNKS, (True, False), (False, True))
    return [(p, c, cache, small) for p, c, cache, small in combinations if not small or c[1] > 1]


def check(
    make_llm: Any, greedy: Any, name: str, page: int, chunk: Any, cache: bool, small: bool
) -> None:
    reference = greedy(name)
    tokens, requests = chunk
    llm = make_llm(
        name,
        page_size=page,
        num_pages=SMALL_POOL[page] if small else 8192 // page,
        max_num_batched_tokens=tokens,
        max_num_seqs=requests,
        enable_prefix_caching=cache,
    )
    outputs = llm.generate([{"prompt_token_ids": p} for p in reference.prompts], GREEDY)
    assert [o.outputs[0].token_ids for o in outputs] == reference.tokens
    assert (llm.engine.scheduler.preemptions > 0) == small
    assert cache or not any(o.num_cached_tokens for o in outputs)


@pytest.mark.parametrize("name", [FULL, *OTHERS])
def test_the_reference_decides_clearly(name, greedy):
    reference = greedy(name)
    assert len(reference.prompts) == 24
    assert min(reference.gaps) > GAP


@pytest.mark.parametrize(("page", "chunk", "cache", "small"), everything())
def test_greedy_tokens_in_every_combination(page, chunk, cache, small, make_llm, greedy):
    check(make_llm, greedy, FULL, page, chunk, cache, small)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize(("page", "chunk", "cache", "small"), SAMPLED)
def test_greedy_tokens_of_other_models(name, page, chunk, cache, small, make_llm, greedy):
    check(make_llm, greedy, name, page, chunk, cache, small)


@pytest.mark.nightly
@pytest.mark.ci(nightly=True, est_seconds=530)
@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize(("page", "chunk", "cache", "small"), everything())
def test_greedy_tokens_of_other_models_in_every_combination(
    name, page, chunk, cache, small, make_llm, greedy
):
    if name == "mistral" and small and page == 1 and chunk == (7, 7):
        pytest.skip("seven windows fit into the smallest pool that holds one request")
    check(make_llm, greedy, name, page, chunk, cache, small)


@pytest.mark.parametrize("name", ["qwen3", "mistral", "qwen2-windows"])
def test_greedy_tokens_after_a_prefix_hit(name, make_llm, greedy):
    reference = greedy(name)
    llm = make_llm(name, num_pages=512)
    prompts = [{"prompt_token_ids": p} for p in reference.prompts]
    llm.generate(prompts, GREEDY)
    again = llm.generate(prompts, GREEDY)
    assert [o.outputs[0].token_ids for o in again] == reference.tokens
    assert all(o.num_cached_tokens > 0 for o in again if len(o.prompt_token_ids) > 16)


@pytest.mark.parametrize("policy", ["fcfs", "lpm", "sjf", "priority"])
def test_greedy_tokens_under_every_policy(policy, make_llm, greedy):
    reference = greedy(FULL)
    llm = make_llm(FULL, policy=policy, num_pages=32, max_num_seqs=24)
    outputs = llm.generate([{"prompt_token_ids": p} for p in reference.prompts], GREEDY)
    assert [o.outputs[0].token_ids for o in outputs] == reference.tokens


@pytest.mark.parametrize("name", ["qwen3", "mistral", "qwen2-windows"])
def test_greedy_tokens_with_the_reference_kernels(name, make_llm, greedy):
    reference = greedy(name)
    banned = "attention!=cpu.flash,linear!=cpu.onednn,attention.input!=cpu.attention_input"
    llm = make_llm(name, kernel=banned, max_num_seqs=24, num_pages=512)
    outputs = llm.generate([{"prompt_token_ids": p} for p in reference.prompts], GREEDY)
    assert [o.outputs[0].token_ids for o in outputs] == reference.tokens
