"""Greedy runs of an engine beside transformers', over pages, chunks, caches, batches and pools."""

from __future__ import annotations

from itertools import product
from typing import Any

from inferplane.params import SamplingParams

GAP = 1e-3  # transformers' two best logits are further apart at every step
GREEDY = SamplingParams(temperature=0.0, max_tokens=64, ignore_eos=True)
PAGES = (1, 16, 128)
CHUNKS = ((7, 1), (7, 7), (64, 1), (64, 24), (4096, 1), (4096, 24))  # tokens a step, requests
SMALL_POOL = {1: 240, 16: 15, 128: 3}  # pages: fewer than the running requests come to need
SAMPLED = (  # of everything: page, (chunk, requests), cache, small pool
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
    """make_llm, greedy: the fixtures. Asserts that tokens, preemptions and cache hits are right."""
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
