"""The scheduler alone, with a made-up model: microseconds a step and a request.

    python benchmarks/scheduler.py

Decode steps of 16, 256 and 1024 running requests, also with a second group of layers that have a
window of 128 tokens; and matching, storing and closing requests of
2,000 tokens that share prefixes.
"""

from __future__ import annotations

import json
import random
import statistics
import time

import numpy as np

from inferplane.batch import Batch, StepResult
from inferplane.cache.manager import CacheGroup, KVCache
from inferplane.scheduler.policy import FirstCome
from inferplane.scheduler.request import Request
from inferplane.scheduler.scheduler import Scheduler
from inferplane.spec import GroupKind

PAGE = 16


def result_of(batch: Batch) -> StepResult:
    counts = batch.sample.astype(np.int32)
    return StepResult(tokens=np.full(int(counts.sum()), 7, dtype=np.int32), counts=counts)


def make(seqs: int, length: int, pages: int, window: int = 0) -> Scheduler:
    groups = [CacheGroup(kind=GroupKind.FULL, page_size=PAGE, pages=pages)]
    if window:
        kept = 2 * seqs * (window // PAGE + 2) + 8192 // PAGE
        groups.append(CacheGroup(kind=GroupKind.WINDOW, page_size=PAGE, pages=kept, window=window))
    cache = KVCache(groups, seqs, length)
    return Scheduler(cache, FirstCome(), max_seqs=seqs, budget=max(seqs, 8192), max_length=length)


def decode(seqs: int, window: int = 0, steps: int = 200) -> float:
    """Median microseconds of a decode step: schedule and commit. Rows are at different places in
    their pages."""
    scheduler = make(seqs, 512, seqs * 40, window)
    rng = random.Random(0)
    for i in range(seqs):
        tokens = np.array([rng.randrange(1000) for _ in range(100 + i % PAGE)], dtype=np.int32)
        scheduler.add(Request(id=str(i), tokens=tokens, max_tokens=380))
    while scheduler.waiting or (scheduler.slots.planned - scheduler.slots.scheduled > 1).any():
        batch = scheduler.schedule()
        assert batch is not None
        scheduler.commit(result_of(batch))
    times = []
    for _ in range(steps):
        begin = time.perf_counter()
        batch = scheduler.schedule()
        assert batch is not None
        spent = time.perf_counter() - begin
        result = result_of(batch)
        begin = time.perf_counter()
        scheduler.commit(result)
        times.append(spent + time.perf_counter() - begin)
    return statistics.median(times) * 1e6


def prefixes(requests: int = 300) -> float:
    """Mean microseconds to match, open, extend, store and close a request of 2,000 tokens."""
    groups = [CacheGroup(kind=GroupKind.FULL, page_size=PAGE, pages=40_000)]
    cache = KVCache(groups, 4, 2048)
    rng = np.random.default_rng(0)
    heads = [rng.integers(0, 1000, 1000, dtype=np.int32) for _ in range(10)]
    prompts = [
        np.concatenate([heads[i % 10], rng.integers(0, 1000, 1000, dtype=np.int32)])
        for i in range(requests)
    ]
    begin = time.perf_counter()
    for tokens in prompts:
        cache.open(0, cache.match(tokens))
        assert cache.extend(0, len(tokens))
        cache.store(0, tokens)
        cache.close(0)
    return (time.perf_counter() - begin) / requests * 1e6


def main() -> None:
    found: dict[str, float] = {}
    for seqs in (16, 256, 1024):
        step = decode(seqs)
        found[f"decode_step_{seqs}_us"] = round(step, 1)
        found[f"decode_request_{seqs}_us"] = round(step / seqs, 2)
        step = decode(seqs, window=128)
        found[f"decode_step_{seqs}_window_us"] = round(step, 1)
        found[f"decode_request_{seqs}_window_us"] = round(step / seqs, 2)
    found["request_of_2000_tokens_us"] = round(prefixes(), 1)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
