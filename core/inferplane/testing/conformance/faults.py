"""Wrong calls: another dtype than was asked for, or tensors on the host.

Tensors of another device give an error or a right result; the check is "wrong-device". A kernel may
trust its caller about dtypes, since a look at each call has a price: what it makes of a wrong one
is told as a note, and is no failure.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from inferplane.plugins.binding import make

from .case import Case, Result, not_run, refused
from .listing import case_of, edges
from .suites import OPS_WITH_SUITES, find
from .target import Target

# Ops whose first argument is made of numbers, and whose call is one kernel.
_TRIED = ("linear", "norm.rms", "norm.add_rms", "activation.gated", "kv.write", "attention")


def cases(target: Target, draws: int) -> Iterator[Case]:
    for op in OPS_WITH_SUITES:
        suite = find(op)
        if suite is None or op not in _TRIED:
            continue
        for candidate in target.offers(op):
            for dtype in target.floats:
                if dtype == "fp32":
                    continue
                sample = edges(suite, target, candidate, dtype)[0]
                run = partial(_run, suite, "wrong-dtype")
                yield case_of(suite, candidate, f"wrong-dtype.{dtype}", sample, run)
            sample = edges(suite, target, candidate, target.floats[0])[0]
            run = partial(_run, suite, "wrong-device")
            yield case_of(suite, candidate, f"wrong-device.{target.floats[0]}", sample, run)


def _run(suite: Any, what: str, case: Case, target: Target) -> Result:
    import torch

    from .driver import refusal

    begin, reason = time.perf_counter(), refusal(case)
    if reason is not None:
        return refused(case, reason)
    if target.data_only:
        return not_run(case, "no device")
    result = Result(case)
    if what == "wrong-device" and target.torch_device.type == "cpu":
        return not_run(case, "the host is the device")
    with torch.inference_mode():
        _try(suite, what, case, target, result)
    result.seconds = time.perf_counter() - begin
    return result


def _try(suite: Any, what: str, case: Case, target: Target, result: Result) -> None:
    from .driver import collect
    from .tensors import error
    from .tolerances import bound

    assert case.offer is not None and case.request is not None
    kernel = make(case.offer, case.request)
    problem = suite.problem(case, target, case.seed)
    if what == "wrong-dtype":
        floats = {n: t.float() for n, t in problem.inputs.items() if t.is_floating_point()}
        problem = replace(problem, inputs=problem.inputs | floats)
    if what == "wrong-device":
        target = replace(target, inputs_on_host=True)
    call = suite.start(case, kernel, problem, target)
    try:
        seen = collect(call, call.run(), target)
    except Exception as refusal:
        kind = what.removeprefix("wrong-")
        result.note = f"a wrong {kind} raises {type(refusal).__name__}"
        return
    for name, right in problem.expected.items():
        found = seen.value(name)
        allowed = bound(suite.op, suite.dtype(case), problem.length)
        if found is None or found.shape != right.shape or not error(found, right) <= allowed:
            if what == "wrong-dtype":
                result.note = "it takes another dtype and gives wrong numbers"
            else:
                result.fail(what, f"neither an error nor a right {name}")
