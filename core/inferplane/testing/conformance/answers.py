"""Area "contract": a candidate's answers, as data. Needs no device and no torch (level V0).

Names of checks: "answers" (raises, gives no Support, or another answer the second time), "reasons"
(refuses without one), "refuses" (says yes to what nobody can serve), "undeclared" (is given a
semantic that it did not name), "features" (names one that it never serves), "layout", "torch-free"
(needs torch to answer).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from inferplane.plugins.resolution import Resolver, ask
from inferplane.spec import (
    AttentionRequest,
    Candidate,
    CollectiveRequest,
    GraphRequest,
    GroupKind,
    Request,
    Support,
    dtype_bytes,
)

from .case import Case, Result, not_run
from .listing import samples
from .suites import find
from .target import Target
from .without_torch import ask_without_torch

_UNKNOWN = "kit.unknown"
_COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast")


def cases(target: Target, draws: int) -> Iterator[Case]:
    for candidate in target.offers():
        for name, check in CHECKS.items():
            yield Case(
                "contract", candidate.op, candidate.name, name, offer=candidate, runner=check
            )
    yield Case("contract", "contract", target.name, "torch-free", runner=torch_free)


def requests(target: Target, candidate: Candidate) -> list[Request]:
    """What the kit asks of a candidate, edges only."""
    suite = find(candidate.op)
    if suite is not None:
        return [sample.request for _, sample in samples(suite, target, candidate, 0)]
    props = target.props
    if candidate.op in _COLLECTIVES:
        return [
            CollectiveRequest(op=candidate.op, device=props, ranks=ranks, dtype=dtype)
            for ranks in (2, 8)
            for dtype in (*target.floats, *target.foreign, "int32")
        ]
    if candidate.op == "graph":
        return [GraphRequest(device=props, what="decode"), GraphRequest(device=props, what="all")]
    return []


def answers(case: Case, target: Target) -> Result:
    """Asks everything three times: in order, in order again, and backwards."""
    result, candidate = Result(case), case.offer
    assert candidate is not None
    asked = requests(target, candidate)
    if not asked:
        return not_run(case, f"the kit has no request for {candidate.op} yet")
    first = []
    for request in asked:
        try:
            support = candidate.supports(request)
        except Exception as error:
            result.fail("answers", f"supports raised {type(error).__name__}: {error}")
            return result
        if not isinstance(support, Support):
            result.fail("answers", f"supports gave {type(support).__name__}, not Support")
            return result
        if not support.ok and not support.reason.strip():
            result.fail("reasons", f"{request.describe() or request}: refused without a reason")
        first.append(support)
    again = [ask(candidate, request) for request in asked]
    backwards = [ask(candidate, request) for request in reversed(asked)][::-1]
    for request, one, two, three in zip(asked, first, again, backwards, strict=True):
        other = two if two != one else three
        if result.failures or other == one:
            continue
        result.fail("answers", f"{request.describe()}: {_said(one)}, then {_said(other)}")
    return result


def _said(support: Support) -> str:
    return "yes" if support.ok else f"no ({support.reason})"


def refuses(case: Case, target: Target) -> Result:
    """What nobody can serve; and, whatever is asked, a semantic that no kernel can have named."""
    result, candidate = Result(case), case.offer
    assert candidate is not None
    resolver, suite = Resolver([candidate]), find(candidate.op)
    for base in suite.bases if suite else ():
        for what, request in suite.traps(target, candidate, base) if suite else ():
            if resolver.choose(request).found and not result.failures:
                result.fail("refuses", f"it says yes to {what}, which nobody can serve")
    for request in requests(target, candidate)[:1]:
        unknown = replace(request, extra=request.extra | {_UNKNOWN})
        if resolver.choose(unknown).found:
            result.fail("undeclared", f"it is given {_UNKNOWN!r}, which it does not name")
    return result


def features(case: Case, target: Target) -> Result:
    """Every semantic that the candidate names is served in some case of the kit."""
    result, candidate = Result(case), case.offer
    assert candidate is not None
    resolver = Resolver([candidate])
    known: set[str] = set()
    served: set[str] = set()
    serves = False
    for request in requests(target, candidate):
        known |= request.requires
        if resolver.choose(request).found:
            served |= request.requires
            serves = True
    if not serves:
        return not_run(case, "it refuses every request of the kit on this device")
    for name in sorted((candidate.features & known) - served):
        result.fail("features", f"it names {name!r}, but refuses every request that needs it")
    untried = sorted(candidate.features - known)
    if untried:
        result.note = f"no case needs {', '.join(untried)}"
    return result


def layout(case: Case, target: Target) -> Result:
    """A published layout holds a page, and says so in bytes. (attention)"""
    result, candidate = Result(case), case.offer
    assert candidate is not None
    for request in requests(target, candidate):
        if candidate.layout is None or not isinstance(request, AttentionRequest):
            continue
        if not ask(candidate, request).ok:
            continue
        made, again = candidate.layout(request), candidate.layout(request)
        vectors = 1 if request.kind is GroupKind.LATENT else 2 * request.kv_heads
        cells = vectors * request.page_size * request.head_dim
        least = cells * dtype_bytes(made.dtype)
        if made != again:
            result.fail("layout", f"{request.describe()}: {made}, then {again}")
        elif made.page_size != request.page_size:
            result.fail("layout", f"a page of {made.page_size}, {request.page_size} was asked for")
        elif made.page_bytes < least:
            result.fail("layout", f"{made.page_bytes} bytes a page, keys and values need {least}")
        if result.failures:
            return result
    return result


CHECKS = {"answers": answers, "refuses": refuses, "features": features, "layout": layout}


def torch_free(case: Case, target: Target) -> Result:
    """All the answers again, in a process where torch cannot be imported."""
    result = Result(case)
    offers = list(target.offers())
    asked = [(c.op, c.name, requests(target, c)) for c in offers]
    found = ask_without_torch(target, asked)
    if isinstance(found, str):
        return not_run(case, found)
    if found.get("error"):
        result.fail("torch-free", found["error"])
        return result
    for candidate, (_, _, list_of) in zip(offers, asked, strict=True):
        key = f"{candidate.op}/{candidate.name}"
        here = [[s.ok, s.reason] for s in (ask(candidate, r) for r in list_of)]
        there = found["answers"].get(key)
        if there is None:
            result.fail("torch-free", f"{key} is not offered without torch")
        elif there != here:
            at = next(i for i, pair in enumerate(here) if pair != there[i])
            result.fail(
                "torch-free",
                f"{key} answers {here[at]} with torch and {there[at]} without it",
            )
    return result
