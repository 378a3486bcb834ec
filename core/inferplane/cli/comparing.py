"""Times all kernels that could serve each request of a model, and keeps their order.

A decode step has as many rows as may run at once, over contexts of up to 4,096 tokens; a prefill
step as many tokens as a step may have. Weights are random. A kernel's place is its time relative to
the fastest, averaged over both steps (geometric mean), since one kernel serves both. A kernel that
computes something else than the one that serves without measurements has no place.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inferplane.errors import UserError
from inferplane.planning.plan import Plan
from inferplane.plugins.binding import bind, make
from inferplane.plugins.resolution import Resolver, is_reference
from inferplane.plugins.site import Site
from inferplane.plugins.tuning import FORMAT, Key, OtherFormat, key_of, read_entries
from inferplane.spec import Candidate, Device, Fault

from .agreement import bound, difference, finite, results_of
from .measuring import save, timed
from .trials import CALLS, CASES, Call, Step, call_of

if TYPE_CHECKING:
    import torch

_CAPTURED = 16


@dataclass
class Contest:
    """One request, and the kernels that could serve it, in the order of planning without
    measurements. microseconds: by kernel and case; those that failed are in `failed`, with the
    reason. trusted: the first kernel that ran, and its results by case; others must agree."""

    site: Site
    request: Any
    able: list[Candidate]
    microseconds: dict[str, dict[str, float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    trusted: tuple[str, dict[str, list[torch.Tensor]]] | None = None

    def places(self) -> list[tuple[str, float]]:
        """Kernels with their relative time, best first."""
        times = self.microseconds
        least = {case: min(t[case] for t in times.values()) for case in CASES} if times else {}
        relative = {
            name: prod(t[case] / least[case] for case in CASES) ** (1 / len(CASES))
            for name, t in times.items()
        }
        return sorted(relative.items(), key=lambda item: (item[1], item[0]))

    def entry(self) -> dict[str, Any]:
        device, op, key = key_of(self.request)
        rows = [
            {
                "kernel": name,
                "relative": round(relative, 3),
                "microseconds": {c: round(t, 2) for c, t in self.microseconds[name].items()},
            }
            for name, relative in self.places()
        ]
        failed = [{"kernel": name, "reason": why} for name, why in self.failed.items()]
        request = self.request.describe()
        entry = {"device": device, "op": op, "request": request, "key": key}
        return entry | {"kernels": rows, "failed": failed}


def contests(plan: Plan, op: str = "") -> list[Contest]:
    """Requests that more than one kernel could serve, each once. Reference kernels take no part,
    nor do those that were forbidden. Those that no graph can hold fail while steps are captured."""
    sites = {site.path: site for site in plan.root.walk()}
    pins, platform = plan.resolver.pins, plan.catalog.selection.platform.name
    found: dict[Key, Contest] = {}
    for path, choice in plan.resolution.choices.items():
        request = choice.request
        if request.op not in CALLS or op not in ("", request.op) or key_of(request) in found:
            continue
        able = [
            candidate
            for candidate in plan.catalog.candidates
            if candidate.op == request.op
            and not is_reference(candidate)
            and (request.op, candidate.name) not in pins.never
            and Resolver([candidate]).choose(request).found
        ]
        loose = [c for c in able if plan.graph and c.capture == "none"]
        able = _in_order([c for c in able if c not in loose], request, platform)
        able.sort(key=lambda c: c.name != pins.by_op.get(c.op))
        if len(able) > 1:
            failed = {c.name: "steps are captured, and no graph can hold it" for c in loose}
            found[key_of(request)] = Contest(sites[path], request, able, failed=failed)
    return list(found.values())


def _in_order(able: list[Candidate], request: Any, platform: str) -> list[Candidate]:
    left, found = list(able), []
    while left:
        found.append(Resolver(left, platform=platform).choose(request).candidate)
        left.remove(found[-1])
    return found


def compare(contest: Contest, plan: Plan, device: Device) -> None:
    """Fills the contest in. Raises UserError when a kernel lost the device, after which nothing
    more can be measured in this process; what was found before is in the contest."""
    for candidate in contest.able:
        measure = partial(_measure, contest, candidate, plan, device)
        for run in (measure, device.empty_cache):
            if _loses(contest, candidate.name, run, device):
                name = f"{candidate.op}!={candidate.name}"
                raise UserError(
                    f"{candidate.name} lost the device, {contest.request.op} "
                    f"{contest.request.describe()}: {contest.failed[candidate.name]}; measure "
                    f"the others without it: --kernel '{name}'"
                )
    contest.trusted = None  # results may be large


def _loses(contest: Contest, name: str, run: Callable[[], None], device: Device) -> bool:
    """Runs it. Whether the device is lost then; any error makes the kernel fail."""
    try:
        run()
    except Exception as error:
        contest.failed.setdefault(name, f"{type(error).__name__}: {error}")
        contest.microseconds.pop(name, None)
        cause: BaseException | None = error
        while cause is not None:
            if device.fault(cause) is Fault.LOST:
                return True
            cause = cause.__cause__
    return False


def _measure(contest: Contest, candidate: Candidate, plan: Plan, device: Device) -> None:
    request, name = contest.request, candidate.name
    kernel = make(candidate, request)
    results, times = {}, {}
    for case in CASES:
        call = call_of(contest.site, request, candidate, kernel, Step(plan, case, device))
        results[case] = results_of(request, call())
        _agree(contest, case, results[case])
        calls = 1
        if case == "decode" and plan.graph:
            call, calls = _replay(call, plan), _CAPTURED
        times[case] = 1e6 * timed(call, device.synchronize) / calls
    if contest.trusted is None:
        contest.trusted = name, results
    contest.microseconds[name] = times


def _replay(call: Call, plan: Plan) -> Call:
    """`_CAPTURED` calls in one graph, as decode steps run: what the host does for each call, which
    may take longer than the kernel, is left out."""

    def several() -> None:
        for _ in range(_CAPTURED):
            call()

    assert plan.graph is not None
    replay: Call = bind(plan.graph).capture(several).replay
    return replay


def _agree(contest: Contest, case: str, results: list[torch.Tensor]) -> None:
    if contest.trusted is None:
        if not finite(results):
            raise ArithmeticError(f"no number of its {case} result is finite")
        return
    name, right = contest.trusted
    most, found = bound(contest.request), difference(results, right[case])
    if found > most:
        raise ArithmeticError(
            f"its {case} result differs from that of {name} by {found:.2g} of its norm; "
            f"{most:g} may be"
        )


def kept(path: Path) -> dict[Key, dict[str, Any]]:
    """The entries of a file that will be written, none if it is of another version. Raises
    UserError for what is no such file."""
    try:
        return read_entries(path) if os.path.exists(path) else {}
    except OtherFormat:
        return {}


def write(found: Sequence[Contest], path: Path, versions: dict[str, str]) -> None:
    """Entries of other requests and devices that the file has are kept."""
    made = {"date": datetime.now(UTC).date().isoformat(), **versions}
    entries = kept(path)
    entries |= {key_of(contest.request): contest.entry() | {"made": made} for contest in found}
    save({"format": FORMAT, "entries": list(entries.values())}, path)
