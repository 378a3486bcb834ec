"""A scheduler over small caches, with the fake executor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.fakes.executor import FakeExecutor, Loop

from inferplane.cache.manager import CacheGroup, KVCache
from inferplane.scheduler.policy import POLICIES
from inferplane.scheduler.request import Request
from inferplane.scheduler.scheduler import Scheduler
from inferplane.spec import GroupKind


@pytest.fixture
def make_request() -> Callable[..., Request]:
    def make(id: str, prompt: Any = (1, 2, 3), **changes: Any) -> Request:
        return Request(**({"id": id, "tokens": np.array(prompt), "max_tokens": 4} | changes))

    return make


@pytest.fixture
def make_loop() -> Callable[..., Loop]:
    """pages: of one full group with 4 tokens a page. window: a second group."""

    def make(
        pages: int = 40,
        policy: str = "fcfs",
        slots: int = 4,
        budget: int = 64,
        longest: int = 40,
        depth: int = 1,
        yields: Any = (1,),
        window: CacheGroup | None = None,
    ) -> Loop:
        groups = [CacheGroup(kind=GroupKind.FULL, page_size=4, pages=pages)]
        groups += [window] if window else []
        scheduler = Scheduler(
            KVCache(groups, slots, longest),
            POLICIES[policy](),
            max_seqs=slots,
            budget=budget,
            max_length=longest,
        )
        return Loop(scheduler, FakeExecutor(groups, slots, longest, yields), depth)

    return make
