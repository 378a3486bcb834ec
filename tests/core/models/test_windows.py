"""Layers with a sliding window: their pages follow the window, and tokens stay the same.

"qwen2-windows" has a full layer and two with a window of 24 tokens, "gpt-oss" one and two with a
window of 24 and sinks; "mistral" has windows only.
"""

from __future__ import annotations

from typing import Any

import pytest

from inferplane.cache.manager import CacheGroup
from inferplane.params import SamplingParams
from inferplane.scheduler.request import Request
from inferplane.spec import GroupKind

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="models", est_seconds=60)

MODELS = ("qwen2-windows", "gpt-oss", "mistral")
GREEDY = SamplingParams(temperature=0.0, max_tokens=64, ignore_eos=True)
TIGHT = {"max_num_seqs": 2, "max_num_batched_tokens": 8}
# Pages: fewer than the running requests come to need. Those of the full group, where there is one.
SMALL = {
    ("qwen2-windows", 1): 240,
    ("qwen2-windows", 4): 60,
    ("mistral", 1): 40,
    ("mistral", 4): 12,
}


def window_group(llm: Any) -> tuple[int, CacheGroup]:
    groups = llm.engine.cache.groups
    return next((i, g) for i, g in enumerate(groups) if g.kind is GroupKind.WINDOW)


def prompts(count: int) -> list[dict[str, list[int]]]:
    """Longer than the windows' pools; every second one begins as the first."""
    made = [[(7 * i * i + 3 * n * i + n) % 300 for i in range(200 + 17 * n)] for n in range(count)]
    return [{"prompt_token_ids": made[0][:150] * (n % 2) + own} for n, own in enumerate(made)]


def tokens(llm: Any, asked: Any, params: SamplingParams = GREEDY) -> list[list[int]]:
    return [output.outputs[0].token_ids for output in llm.generate(asked, params)]


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize(("name", "page"), SMALL)
def test_tokens_with_a_small_pool_are_those_of_transformers(name, page, cache, make_llm, greedy):
    reference, half = greedy(name), slice(0, None, 2)
    llm = make_llm(
        name,
        page_size=page,
        num_pages=SMALL[name, page],
        enable_prefix_caching=cache,
        **TIGHT,
    )
    _, group = window_group(llm)
    assert group.pages * page < max(map(len, reference.prompts))
    asked = [{"prompt_token_ids": prompt} for prompt in reference.prompts[half]]
    assert tokens(llm, asked) == reference.tokens[half]
    assert llm.engine.scheduler.preemptions > 0


@pytest.mark.parametrize("name", MODELS)
def test_tokens_are_those_of_a_huge_pool(name, make_llm):
    asked = prompts(4)
    huge = tokens(make_llm(name, page_size=16, num_pages=2000, max_num_batched_tokens=512), asked)
    pages = 24 if name == "mistral" else 120
    llm = make_llm(name, page_size=4, num_pages=pages, **TIGHT)
    assert tokens(llm, asked) == huge
    for one, wanted in zip(asked, huge, strict=True):  # behind what is left of its prefix
        (output,) = llm.generate([one], GREEDY)
        (again,) = llm.generate([one], GREEDY)
        assert output.outputs[0].token_ids == again.outputs[0].token_ids == wanted
        assert again.num_cached_tokens > 100


def most_in_use(llm: Any, length: int, new: int) -> list[int]:
    """Pages of each group that one request holds at most."""
    text = [(5 * i * i + i) % 300 for i in range(length)]
    llm.engine.add(Request(id="long", tokens=text, max_tokens=new, sampling=GREEDY))
    most = [0] * len(llm.engine.cache.pools)
    while llm.engine.unfinished:
        llm.engine.step()
        most = [max(a, pool.in_use) for a, pool in zip(most, llm.engine.cache.pools, strict=True)]
    return most


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_memory_follows_the_window_and_not_the_length(name, cache, make_llm):
    llm = make_llm(
        name, page_size=4, num_pages=128, enable_prefix_caching=cache, max_num_batched_tokens=16
    )
    index, group = window_group(llm)
    short, long = most_in_use(llm, 100, 20), most_in_use(llm, 400, 80)
    assert long[index] == short[index] <= group.window_pages + 16 // 4
    for at, most in enumerate(long):
        if at != index:
            assert most == 120  # 480 tokens


@pytest.mark.parametrize("name", MODELS)
def test_a_request_may_be_longer_than_the_window_pool(name, make_llm):
    llm = make_llm(name, page_size=4, num_pages=14 if name == "mistral" else 128, **TIGHT)
    _, group = window_group(llm)
    assert group.pages * 4 < 160
    assert llm.plan.effective["max_model_len"] == 512
    assert len(tokens(llm, prompts(1), SamplingParams(temperature=0.0, max_tokens=300))[0]) == 300


@pytest.mark.ci(platforms=["sim"], est_seconds=20)
@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("name", ["qwen2-windows", "mistral"])
def test_with_steps_that_overlap(name, graphs, make_llm, changed_config):
    """On this device a page that is written while a launched step reads it is wrong data."""
    folder = changed_config(name, max_position_embeddings=2048)
    asked = [{"prompt_token_ids": (p["prompt_token_ids"] * 6)[:1200]} for p in prompts(3)]
    params = SamplingParams(temperature=0.0, max_tokens=150, ignore_eos=True)
    expected = tokens(make_llm(folder, num_pages=500, max_num_batched_tokens=512), asked, params)
    pages = 4 if name == "mistral" else 24
    small = {"page_size": 128, "num_pages": pages, "max_num_batched_tokens": 96, "max_num_seqs": 2}
    llm = make_llm(folder, device="sim", overlap=True, graphs=graphs, **small)
    assert llm.engine.executor.depth == 2
    _, group = window_group(llm)
    assert group.pages < 20  # for 2,700 tokens
    assert tokens(llm, asked, params) == expected
