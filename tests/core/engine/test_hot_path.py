"""Resolve once, then call directly: no plugin machinery in a step."""

from __future__ import annotations

import sys
from types import FrameType

import numpy as np
import pytest

from inferplane import LLM
from inferplane.params import SamplingParams
from inferplane.plugins.binding import ByTokens
from inferplane.scheduler.request import Request

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=5)

ALLOWED = ByTokens.__call__.__code__  # a list indexed by the number of rows


def test_a_step_calls_neither_pluggy_nor_the_plugins_package():
    with LLM("tiny-arithmetic", device="cpu", dtype="float32", num_pages=64) as llm:
        params = SamplingParams(temperature=1.0, top_k=5, seed=1)
        for at in range(3):
            tokens = np.arange(20 + at, dtype=np.int32)
            llm.engine.add(Request(id=str(at), tokens=tokens, max_tokens=4, sampling=params))
        seen: set[str] = set()

        def watch(frame: FrameType, event: str, argument: object) -> None:
            if event == "call" and frame.f_code is not ALLOWED:
                seen.add(frame.f_code.co_filename)

        sys.setprofile(watch)
        try:
            while llm.engine.unfinished:
                llm.engine.step()
        finally:
            sys.setprofile(None)
    assert any("inferplane/runner/runner.py" in name for name in seen)  # the hook did watch
    assert not [n for n in seen if "pluggy" in n or "inferplane/plugins" in n or "importlib" in n]
