"""The checks of one call. Each has a name, which failures carry."""

from __future__ import annotations

from dataclasses import replace

import torch

from .case import Result
from .problem import Observed, Problem
from .tensors import bits, error, same, worst
from .tolerances import bound


def parity(
    op: str, dtype: str, problem: Problem, seen: Observed, result: Result, more: float = 0.0
) -> None:
    """ "shape": shape and dtype of results. "parity": values within the bound. more: allowed beside
    the op's bound."""
    from inferplane.spec.torch_types import torch_dtype

    for name, right in problem.expected.items():
        found = seen.value(name)
        if found is None:
            result.fail("shape", f"it gave no {name}")
            continue
        if found.shape != right.shape:
            result.fail("shape", f"{name} is {tuple(found.shape)}, not {tuple(right.shape)}")
            continue
        if name in seen.results and found.is_floating_point():
            wanted = right.dtype if name in problem.exact else torch_dtype(dtype)
            if found.dtype != wanted:
                result.fail("shape", f"{name} is {found.dtype}, not {wanted}")
                continue
        share = error(found, right)
        allowed = 0.0 if name in problem.exact else bound(op, dtype, problem.length) + more
        result.measured(share, allowed)
        if not share <= allowed:
            text = f"{name} is off by {share:.3g} of its largest value, {allowed:.3g} is allowed"
            result.fail("parity", f"{text}: {worst(found, right)}")


def within(problem: Problem, seen: Observed, name: str, allowed: torch.Tensor | None) -> Problem:
    """The problem with the right value that is nearest to the one found, where several are right:
    `allowed` to either side, one number an element."""
    found = seen.value(name)
    right = problem.expected[name]
    if allowed is None or found is None or found.shape != right.shape:
        return problem
    nearest = found.double().clamp(right - allowed, right + allowed)
    nearest = torch.where(nearest.isnan(), right, nearest)
    return replace(problem, expected=problem.expected | {name: nearest})


def writes(problem: Problem, seen: Observed, result: Result) -> None:
    """ "mutates": arguments that are not written. "outside": what lies around those that are."""
    for name, guarded in seen.arguments.items():
        before = guarded.before()
        if not guarded.outside_is_whole():
            result.fail("outside", f"memory before or after {name} was written")
        if name not in problem.writes and not same(seen.now[name], before):
            result.fail("mutates", f"{name} was changed; it is not among the arguments to write")
    for name, mask in problem.untouched.items():
        now = seen.now[name]
        known = seen.arguments.get(name)
        before = problem.state[name] if known is None else known.before()
        changed = (bits(now) != bits(before.to(now.dtype))) & mask
        if bool(changed.any()):
            at = [tuple(int(i) for i in row) for row in torch.nonzero(changed)[:3]]
            result.fail("outside", f"{int(changed.sum())} elements of {name} changed, as at {at}")


def equal_runs(
    name: str, problem: Problem, first: Observed, second: Observed, result: Result, what: str
) -> None:
    """`name` is the check: "determinism" for two equal runs, "poison" where only unread memory
    differs."""
    for key in problem.expected:
        one, two = first.value(key), second.value(key)
        if one is not None and two is not None and not same(one, two):
            result.fail(name, f"{key} differs {what}: {worst(two, one)}")
            return


def no_waits(seen: Observed, result: Result) -> None:
    """ "synchronises": the call waited for the device."""
    if seen.waits:
        what = ", ".join(sorted(set(seen.waits)))
        result.fail("synchronises", f"the call waited for the device: {what}")
