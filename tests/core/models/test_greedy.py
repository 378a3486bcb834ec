"""Greedy tokens are those of transformers, whatever the page, chunk, cache, batch and pool."""

import pytest
from tests.fakes.greedy import GAP, GREEDY, SAMPLED, check, everything

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="models", est_seconds=96)

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
    llm = make_llm(name, num_pages=512, max_num_seqs=24)  # a window's pool is for so many
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
