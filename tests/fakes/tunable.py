"""A kernel with configurations, in plain torch: the larger `work`, the longer a call takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from inferplane.spec import Candidate, Support

SLOW, FAST = {"work": 3}, {"work": 1}


class FakeTunable:
    """folder: where its files would be. "fails" raises on the first call."""

    def __init__(self, folder: str = "unknown") -> None:
        self.folder = Path(folder)

    def cases(self, request: Any) -> Sequence[str]:
        return ("prefill",)

    def configurations(self, request: Any, case: str) -> Sequence[Mapping[str, int]]:
        return [SLOW, FAST, {"work": -1}]

    def call(
        self, request: Any, case: str, configuration: Mapping[str, int], device: Any
    ) -> Callable[[], object]:
        if configuration["work"] < 0:
            raise RuntimeError("too much shared memory")
        return lambda: time.sleep(0.0005 * configuration["work"])

    def file(self, request: Any) -> Path:
        return self.folder / "fake.json"


fake = FakeTunable()


def candidate(op: str = "norm.rms", tunable: str = "tests.fakes.tunable:fake") -> Candidate:
    return Candidate(
        op=op,
        name="tuned.kernel",
        supports=lambda request: Support.yes(),
        load="inferplane.reference.norm:rms_norm",
        priority=1000,
        tunable=tunable,
    )
