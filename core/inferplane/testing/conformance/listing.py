"""The cases of a candidate: edges in every dtype, dtypes that the device lacks, and drawn ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from inferplane.plugins.resolution import ask
from inferplane.spec import Candidate, Request

from .case import Case, Result
from .sample import Sample, range_of, rng_of
from .suite import Suite
from .target import Target

_TRIES = 8  # draws are repeated for a request that the candidate serves
Runner = Callable[[Case, Target], Result]


def samples(
    suite: Suite, target: Target, candidate: Candidate, draws: int
) -> Iterator[tuple[str, Sample]]:
    """(name of the case, sample). Names do not depend on `draws`."""
    for dtype in target.floats:
        found = edges(suite, target, candidate, dtype)
        for sample in found:
            yield f"{sample.name}.{dtype}", sample
        yield from _token_breaks(suite, candidate, dtype, found)
    for dtype in target.foreign:
        for sample in edges(suite, target, candidate, dtype)[:1]:
            yield f"foreign-{sample.name}.{dtype}", sample
    for at in range(draws):
        rng = rng_of(suite.op, "drawn", at)
        dtype = target.floats[at % len(target.floats)]
        for _ in range(_TRIES):
            sample = suite.drawn(target, candidate, dtype, rng)
            if serves(candidate, sample.request):
                break
        yield f"drawn-{at}.{dtype}", sample


def edges(suite: Suite, target: Target, candidate: Candidate, dtype: str) -> list[Sample]:
    """Each edge with the first base that the candidate serves it with, or with the first of all."""
    each = [list(suite.samples(target, candidate, dtype, base)) for base in suite.bases]
    return [
        next((s for s in variants if serves(candidate, s.request)), variants[0])
        for variants in zip(*each, strict=True)
    ]


def serves(candidate: Candidate, request: Request) -> bool:
    """As the core would ask."""
    return request.requires <= candidate.features and ask(candidate, request).ok


def _token_breaks(
    suite: Suite, candidate: Candidate, dtype: str, found: list[Sample]
) -> Iterator[tuple[str, Sample]]:
    """Calls with as many tokens as the last and the first of the candidate's ranges have."""
    if not found or not hasattr(found[0].shape, "tokens"):
        return
    first = found[0]
    for edge in candidate.token_breaks:
        for tokens in (edge, edge + 1):
            shape = replace(first.shape, tokens=tokens)
            yield f"tokens-{tokens}.{dtype}", replace(first, shape=shape, tokens=tokens)


def cases(suite: Suite, target: Target, candidate: Candidate, draws: int) -> Iterator[Case]:
    for name, sample in samples(suite, target, candidate, draws):
        yield case_of(suite, candidate, name, sample, partial(_run, suite))


def case_of(
    suite: Suite, candidate: Candidate, name: str, sample: Sample, runner: Runner, area: str = ""
) -> Case:
    return Case(
        area or suite.area,
        suite.op,
        candidate.name,
        name,
        asked(sample, candidate),
        sample.shape,
        candidate,
        runner,
    )


def _run(suite: Suite, case: Case, target: Target) -> Result:
    from .driver import run_case

    return run_case(suite, case, target)


def asked(sample: Sample, candidate: Candidate) -> Request:
    """The request over the token range that the core would ask for."""
    if not candidate.token_breaks:
        return sample.request
    return sample.request.over(range_of(sample.tokens, candidate))
