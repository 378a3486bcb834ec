"""The parts, in the order in which they run: right first, then fast. The conformance kit is last,
since it takes what time there is."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from .job import Job


@dataclass(frozen=True)
class Part:
    """seconds: after so many it is stopped. load: "module:function"."""

    name: str
    seconds: float
    load: str
    about: str

    def function(self) -> Callable[..., None]:
        module, _, attribute = self.load.partition(":")
        made: Callable[..., None] = getattr(
            importlib.import_module(f"{__package__}.{module}"), attribute
        )
        return made


PARTS = (
    Part("accuracy", 120, "correct:run_accuracy", "sums of the bundled models"),
    Part("parity", 120, "correct:run_parity", "greedy tokens in fp32, against the CPU's"),
    Part("ceilings", 45, "ceilings:run", "copy bandwidth and matmul rate"),
    Part("decode", 240, "attention:run_decode", "decode attention, a share of the bandwidth"),
    Part("prefill", 240, "attention:run_prefill", "prefill attention, a share of the matmul rate"),
    Part("single", 180, "single:run", "one request: load, capture, decode"),
    Part("many", 180, "many:run_ours", "many requests at once"),
    Part("many_transformers", 240, "many:run_theirs", "the same with transformers"),
    Part("tune", 240, "tuning:run", "configurations of kernels"),
    Part("conformance", 1800, "kit:run", "the kit's certificate"),
)
BY_NAME = {part.name: part for part in PARTS}


def run_here(job: Job, warm: str = "") -> int:
    """One part in this process. Gives the exit code: 0 where it was measured, or cannot be here."""
    import traceback

    from .job import NotRun

    job.write("running")
    try:
        function = BY_NAME[job.part].function()
        function(job, warm) if warm else function(job)
    except NotRun as reason:
        job.write("not run", str(reason))
        return 0
    except Exception as error:
        traceback.print_exc()
        text = str(error).splitlines()[0] if str(error) else ""
        job.write("failed", f"{type(error).__name__}: {text}"[:500])
        return 1
    job.write("done")
    return 0
