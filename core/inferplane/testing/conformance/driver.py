"""Runs one case of one op: every check on one kernel and one problem."""

from __future__ import annotations

import time
import traceback
from typing import Any

import torch

from inferplane.plugins.binding import make
from inferplane.plugins.resolution import Resolver

from . import checks
from .case import Case, Result, not_run, refused
from .problem import Call, Observed, Problem
from .suite import Suite
from .target import Target
from .watch import waits


def refusal(case: Case) -> str | None:
    """Why the core would not give this request to the candidate; None where it would."""
    assert case.offer is not None and case.request is not None
    choice = Resolver([case.offer]).choose(case.request)
    return None if choice.found else choice.rejected[0].reason


def run_case(suite: Suite, case: Case, target: Target) -> Result:
    """Asks, loads, calls, and compares. What a kernel raises fails its case only."""
    begin = time.perf_counter()
    reason = refusal(case)
    if reason is not None:
        return refused(case, reason)
    if target.data_only:
        return not_run(case, "no device: only answers were checked")
    result = Result(case, dtype=suite.dtype(case))
    try:
        with torch.inference_mode():
            _run(suite, case, target, result)
    except Exception as error:
        result.fail("raises", explain(error))
    result.seconds = time.perf_counter() - begin
    return result


def explain(error: BaseException) -> str:
    """The error, and the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


def _run(suite: Suite, case: Case, target: Target, result: Result) -> None:
    assert case.offer is not None and case.request is not None
    kernel = make(case.offer, case.request)
    problem = suite.problem(case, target, case.seed)
    first = observe(suite, case, kernel, problem, target)
    suite.judge(case, problem, first, result)
    checks.writes(problem, first, result)
    checks.no_waits(first, result)
    second = observe(suite, case, kernel, problem, target)
    checks.equal_runs("determinism", problem, first, second, result, "between two equal calls")
    poisoned = suite.poisoned(problem)
    if poisoned is not None:
        third = observe(suite, case, kernel, poisoned, target)
        checks.equal_runs(
            "poison", problem, first, third, result, "when memory that is not addressed holds NaN"
        )


def observe(suite: Suite, case: Case, kernel: Any, problem: Problem, target: Target) -> Observed:
    """One call from fresh inputs, and all that it left."""
    call = suite.start(case, kernel, problem, target)
    if not target.asynchronous:
        return collect(call, call.run(), target)
    with waits(target.device) as waited:
        results = call.run()
    return collect(call, results, target, waited)


def collect(
    call: Call, results: dict[str, torch.Tensor], target: Target, waited: list[str] | None = None
) -> Observed:
    target.device.synchronize()
    found = {name: value.cpu().clone() for name, value in results.items()}
    now = {name: guarded.now() for name, guarded in call.arguments.items()}
    return Observed(found, call.arguments, now | call.after(), list(waited or []))
