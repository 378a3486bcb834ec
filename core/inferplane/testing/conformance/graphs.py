"""Area "graphs": a captured kernel, replayed over new inputs, equals the same kernel called.

Name of the check: "graph".
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from inferplane.plugins.binding import make
from inferplane.plugins.resolution import Resolver
from inferplane.spec import Candidate, GraphRequest

from .case import Case, Result, not_run, refused
from .listing import case_of, edges
from .suites import find
from .target import Target

if TYPE_CHECKING:
    import torch

# Small decodes, and something larger: the edges of suites that are worth a graph.
_SHAPES = ("one-token", "first-token", "many-tokens", "many-decodes", "mixed", "over-a-page")
_ONLY_DECODES = ("one-token", "first-token", "many-decodes", "many-tokens", "over-a-page")


def cases(target: Target, draws: int) -> Iterator[Case]:
    backends = list(target.offers("graph"))
    if not backends:
        yield Case("graphs", "graph", target.name, "replay", runner=_nothing)
    for backend in backends:
        request = GraphRequest(device=target.props)
        run = partial(_plain, backend)
        yield Case("graphs", "graph", backend.name, "plain", request, offer=backend, runner=run)
        for candidate in target.offers():
            suite = find(candidate.op)
            if suite is None or suite.area in ("blocks", "layers", "sample"):
                continue
            if candidate.capture != "none":
                yield from _of(target, suite, candidate, backend)


def _nothing(case: Case, target: Target) -> Result:
    return not_run(case, "the platform offers no capture and replay")


def _plain(backend: Candidate, case: Case, target: Target) -> Result:
    """Two torch operations, captured once and replayed over new numbers."""
    import torch

    from .driver import explain, refusal

    reason = refusal(case)
    if reason is not None:
        return refused(case, reason)
    if target.data_only:
        return not_run(case, "no device")
    result = Result(case)
    try:
        with torch.inference_mode():
            x = target.put(torch.arange(6.0))
            out = torch.zeros_like(x)
            handle = make(backend, case.request).capture(lambda: out.copy_(x * 2 + 1))  # type: ignore[arg-type]
            for start in (10.0, -3.0):
                x.copy_(target.put(torch.arange(6.0) + start))
                handle.replay()
                target.device.synchronize()
                if out.cpu().tolist() != [2 * (start + i) + 1 for i in range(6)]:
                    result.fail("graph", f"2 x + 1 is {out.cpu().tolist()} for x from {start}")
    except Exception as error:
        result.fail("graph", explain(error))
    return result


def _of(target: Target, suite: Any, candidate: Candidate, backend: Candidate) -> Iterator[Case]:
    names = _SHAPES if candidate.capture == "all" else _ONLY_DECODES
    for sample in edges(suite, target, candidate, target.floats[-1]):
        if sample.name in names:
            run = partial(_run, suite, backend)
            name = f"replay-{backend.name}-{sample.name}"
            yield case_of(suite, candidate, name, sample, run, area="graphs")


def _run(suite: Any, backend: Candidate, case: Case, target: Target) -> Result:
    import torch

    from .driver import explain, refusal

    begin, reason = time.perf_counter(), refusal(case)
    assert case.offer is not None
    what: Any = "decode" if case.offer.capture == "decode" else "all"
    asked = Resolver([backend]).choose(GraphRequest(device=target.props, what=what))
    if reason is None and not asked.found:
        reason = f"{backend.name}: {asked.rejected[0].reason}"
    if reason is not None:
        return refused(case, reason)
    if target.data_only:
        return not_run(case, "no device")
    result = Result(case)
    try:
        with torch.inference_mode():
            _replay(suite, make(backend, asked.request), case, target, result)
    except Exception as error:
        result.fail("graph", explain(error))
    result.seconds = time.perf_counter() - begin
    return result


def _replay(suite: Any, backend: Any, case: Case, target: Target, result: Result) -> None:
    from .tensors import same

    assert case.offer is not None and case.request is not None
    kernel = make(case.offer, case.request)
    first = suite.problem(case, target, case.seed)
    second = suite.problem(case, target, case.seed + 1)
    call = suite.start(case, kernel, first, target)
    call.run()  # kernels may load or tune when they are first called
    target.device.synchronize()
    captured: dict[str, torch.Tensor] = {}
    handle = backend.capture(lambda: captured.update(call.run()))
    seen = []
    for run in (handle.replay, lambda: captured.update(call.run())):
        call.renew(second)
        run()
        target.device.synchronize()
        seen.append(
            {name: value.cpu().clone() for name, value in captured.items()}
            | {name: guarded.now() for name, guarded in call.arguments.items()}
            | call.after()
        )
    replayed, eager = seen
    for name, value in eager.items():
        if not same(replayed[name], value):
            result.fail("graph", f"{name} differs between replay and call, over new inputs")
            return
