"""Greedy tokens of the families with experts are those of transformers."""

import pytest
from tests.fakes.greedy import GAP, GREEDY, SAMPLED, check, everything
from tests.fakes.mixtures import MIXTURES

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="models", est_seconds=50)

FAMILIES = ("qwen3-moe", "mixtral", "gpt-oss", "deepseek-v2", "deepseek-v3", "glm4-moe")

# each combination with two of the families
SHARED_OUT = [(name, *c) for at, name in enumerate(FAMILIES) for c in everything()[at % 3 :: 3]]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_reference_decides_clearly(name, greedy):
    reference = greedy(name)
    assert len(reference.prompts) == 24
    assert min(reference.gaps) > GAP


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("page", "chunk", "cache", "small"), SAMPLED)
def test_greedy_tokens(name, page, chunk, cache, small, make_llm, greedy):
    check(make_llm, greedy, name, page, chunk, cache, small)


@pytest.mark.parametrize("name", ["gpt-oss", "deepseek-v3"])
def test_greedy_tokens_after_a_prefix_hit(name, make_llm, greedy):
    reference = greedy(name)
    llm = make_llm(name, num_pages=512)
    for at in range(10, 24, 3):  # one by one: pages of a window are few, and are soon let go
        prompt = {"prompt_token_ids": reference.prompts[at]}
        llm.generate([prompt], GREEDY)
        (again,) = llm.generate([prompt], GREEDY)
        assert again.outputs[0].token_ids == reference.tokens[at]
        assert again.num_cached_tokens > 0


@pytest.mark.nightly
@pytest.mark.ci(nightly=True, est_seconds=60)
@pytest.mark.parametrize("name", [name for name in MIXTURES if name not in FAMILIES])
@pytest.mark.parametrize(("page", "chunk", "cache", "small"), SAMPLED)
def test_greedy_tokens_of_variants(name, page, chunk, cache, small, make_llm, greedy):
    check(make_llm, greedy, name, page, chunk, cache, small)


@pytest.mark.nightly
@pytest.mark.ci(nightly=True, est_seconds=340)
@pytest.mark.parametrize(("name", "page", "chunk", "cache", "small"), SHARED_OUT)
def test_greedy_tokens_in_every_combination(name, page, chunk, cache, small, make_llm, greedy):
    check(make_llm, greedy, name, page, chunk, cache, small)
