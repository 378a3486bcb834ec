"""Runs a partition, a file at a time or several at once, with a limit for each and for all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from .config import Suite
from .events import by_scope
from .process import Ended, run_file
from .registry import Job, Registry

PASSED, FAILED, HUNG, SKIPPED, EMPTY, NOT_RUN = (
    "passed",
    "failed",
    "hung",
    "skipped",
    "empty",
    "not run",
)
GOOD = (PASSED, SKIPPED)
_SHOWN = (
    "path",
    "state",
    "seconds",
    "est_seconds",
    "passed",
    "failed",
    "skipped",
    "reason",
    "running",
)
_NO_TESTS = 5  # pytest's exit status
Tell = Callable[["Result"], None]


@dataclass(frozen=True)
class Request:
    """What is run. pytest: further arguments for it."""

    suite: str
    platform: str
    nightly: bool = False
    jobs: int = 1
    pytest: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """What became of one file.

    state: one of the words above; "empty" is a file whose registered tests pytest did not find.
    marks: seconds by the scope of each mark that was selected. running: the test that hung.
    """

    path: str
    state: str
    est_seconds: float
    seconds: float = 0.0
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    reason: str = ""
    running: str = ""
    stacks: str = ""
    output: str = ""
    marks: dict[str, float] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        return self.state in GOOD

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _SHOWN}


class Run:
    """One `inferplane-ci run`."""

    def __init__(self, registry: Registry, request: Request) -> None:
        self.registry = registry
        self.request = request
        self.suite: Suite = registry.config.suites[request.suite]
        self.stop = threading.Event()

    def all(self, jobs: Sequence[Job], tell: Tell) -> list[Result]:
        """Runs the jobs in their order. tell: is given each result as it comes."""
        deadline = time.monotonic() + self.suite.total_seconds

        def one(job: Job) -> Result:
            result = self.one(job, deadline - time.monotonic())
            tell(result)
            return result

        with ThreadPoolExecutor(self.request.jobs) as pool:
            futures = [pool.submit(one, job) for job in jobs]
            try:
                return [future.result() for future in futures]
            except BaseException:
                self.stop.set()
                pool.shutdown(cancel_futures=True)
                raise

    def one(self, job: Job, left: float) -> Result:
        """left: seconds until the whole run must end."""
        if left <= 0:
            reason = f"the suite's {self.suite.total_seconds:g} s were over"
            return Result(job.path, NOT_RUN, job.est_seconds, reason=reason)
        limit = min(self.suite.file_seconds, left)
        ended = run_file(
            job.path, self._options(), self.registry.root, limit, stop=self.stop.is_set
        )
        state, reason = judge(ended, limit)
        marks = by_scope(ended.report, [e.scope for e in job.entries], ended.seconds)
        report = ended.report
        return Result(
            job.path, state, job.est_seconds, ended.seconds, report.passed, report.failed,
            report.skipped, reason, report.running, ended.stacks, ended.output, marks,
        )  # fmt: skip

    def _options(self) -> list[str]:
        options = [
            f"--inferplane-ci-suite={self.request.suite}",
            f"--inferplane-ci-platform={self.request.platform}",
        ]
        if self.request.nightly:
            options.append("--inferplane-ci-nightly")
        return [*options, *self.request.pytest]


def judge(ended: Ended, limit: float) -> tuple[str, str]:
    """(state, reason)"""
    report = ended.report
    if ended.stopped:
        return NOT_RUN, "stopped"
    if ended.code is None:
        where = f" in {report.running}" if report.running else ", in no test"
        return HUNG, f"killed after {limit:g} s{where}"
    if ended.code == _NO_TESTS:
        return EMPTY, "pytest selected no test, but the file is registered for this run"
    if ended.code < 0:
        where = f" in {report.running}" if report.running else ""
        return FAILED, f"ended by signal {-ended.code}{where}"
    if ended.code:
        return FAILED, f"pytest ended with {ended.code}"
    if report.skipped and not report.passed:
        return SKIPPED, "every test was skipped"
    return PASSED, ""
