"""Steps before the first request: kernels are compiled, and the largest step is seen to fit."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence

import numpy as np

from inferplane.activity import Activity
from inferplane.batch import Batch, NewRow
from inferplane.errors import UserError
from inferplane.executor.base import Executor
from inferplane.params import SamplingParams
from inferplane.planning.plan import Plan
from inferplane.spec import Fault

from .recovery import first_line

log = logging.getLogger("inferplane.engine")

_DRAWN = SamplingParams(temperature=1.0, top_k=20, top_p=0.9, seed=0)
Pool = tuple[int, int]
"""(tokens a page, pages) of one KV group."""


def warm_up(plan: Plan, executor: Executor, activity: Activity) -> None:
    """Runs the largest prefill, and decodes of many sizes. What they leave in the cache nobody
    reads. Watchdogs do not count the time: a library may compile for minutes.

    Raises UserError with what to lower where they do not fit; whatever else a kernel raises.
    """
    log.info("warming up: kernels may be compiled")
    begin, activity.timed = time.perf_counter(), False
    try:
        _run(plan, executor)
    finally:
        activity.timed = True
    log.info("warmed up in %.1f s", time.perf_counter() - begin)


def _run(plan: Plan, executor: Executor) -> None:
    effective = plan.effective
    pools = [(g.page_size, n) for g, n in zip(plan.groups, plan.budget.pages, strict=True)]
    rows, tokens = effective["max_num_seqs"], effective["max_num_batched_tokens"]
    for batch in batches(rows, tokens, effective["max_model_len"], pools):
        try:
            executor.launch(batch).result()
        except Exception as error:
            if executor.fault(error) is not Fault.MEMORY:
                raise
            raise UserError(
                f"a step of {len(batch.slots)} requests and {batch.tokens} tokens does not fit "
                f"beside weights and KV cache ({first_line(error)}): lower "
                f"--max-num-batched-tokens ({tokens}), --max-num-seqs ({rows}) or "
                f"--memory-fraction ({effective['memory_fraction']})"
            ) from error


def batches(rows: int, tokens: int, length: int, pools: Sequence[Pool]) -> Iterator[Batch]:
    """The largest prefill, then greedy decodes of as many rows as there may be and of each power of
    two below, then drawn ones. Kernels are compiled for what follows from a number of rows by
    powers of two: how the keys are split, tiles of few tokens.

    rows, tokens: most of a step. length: most of a request, the token that it yields included.
    """
    counts = prompts(rows, tokens, length - 1, pools)
    if not counts:
        return
    yield _batch(0, counts, pools, None)
    most = min(rows, tokens, *(pages for _, pages in pools))
    sizes = {most, *(1 << bit for bit in range(most.bit_length()))}
    for step, size in enumerate(sorted(sizes, reverse=True), 1):
        yield _batch(step, [1] * size, pools, None)
    yield _batch(len(sizes) + 1, [1] * most, pools, _DRAWN)


def prompts(rows: int, tokens: int, length: int, pools: Sequence[Pool]) -> list[int]:
    """Tokens of each row of the largest prefill that the pools hold."""
    free = [pages for _, pages in pools]
    found: list[int] = []
    while len(found) < rows:
        room = (left * page for left, (page, _) in zip(free, pools, strict=True))
        count = min(tokens - sum(found), length, *room)
        if count < 1:
            break
        found.append(count)
        free = [left - -(-count // page) for left, (page, _) in zip(free, pools, strict=True)]
    return found


def _batch(
    step: int, counts: Sequence[int], pools: Sequence[Pool], sampling: SamplingParams | None
) -> Batch:
    """Every row from its first token on; pages in order."""
    slots = np.arange(len(counts), dtype=np.int32)
    updates = []
    for group, (page, _) in enumerate(pools):
        held = [-(-count // page) for count in counts]
        columns = np.concatenate([np.arange(n, dtype=np.int32) for n in held])
        pages = np.arange(sum(held), dtype=np.int32)
        updates.append((group, np.repeat(slots, held), columns, pages))
    return Batch(
        step=step,
        new=[
            NewRow(
                slot=slot,
                tokens=np.zeros(count, dtype=np.int32),
                prompt_length=count,
                sampling=sampling,
                wants_prompt=False,
            )
            for slot, count in enumerate(counts)
        ],
        slots=slots,
        starts=np.zeros(len(counts), dtype=np.int32),
        counts=np.array(counts, dtype=np.int32),
        sample=np.ones(len(counts), dtype=bool),
        decodes=len(counts) if max(counts) == 1 else 0,
        updates=updates,
        copies=[],
    )
