"""Candidates that answer wrongly are caught without a device."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest
from tests.fakes.kit import candidate, caught_by, floats, results, target_of

from inferplane.reference.attention import Attention
from inferplane.reference.norm import rms_norm
from inferplane.spec import KVLayout, Support, standard_layout

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="conformance", est_seconds=2)


def caught(check: str, op: str = "norm.rms", **fields) -> str:
    factory = Attention if op == "attention" else rms_norm
    return caught_by(check, target_of(candidate(op, factory, **fields)), areas=("contract",))


def test_a_fair_candidate_passes():
    found = results(target_of(candidate("norm.rms", rms_norm)), areas=("contract",))
    assert {result.status for result in found} <= {"passed", "not run"}


def test_yes_to_everything():
    assert caught("refuses", supports=lambda request: Support.yes())


def test_yes_to_everything_fails_where_it_is_wrong_too():
    lying = candidate("norm.rms", lambda r: lambda x, w: x.half(), supports=lambda r: Support.yes())
    assert caught_by("shape", target_of(lying), op="norm.rms", areas=("ops",))


def test_a_refusal_without_a_reason():
    assert caught("reasons", supports=lambda request: Support(False))


def test_another_answer_the_second_time():
    calls = count()

    def answer(request):
        return Support.yes() if next(calls) % 3 else Support.no(f"call {next(calls)}")

    assert caught("answers", supports=answer)


def test_an_answer_that_depends_on_what_was_asked_before():
    seen: list[object] = []

    def answer(request):
        seen.append(request.size)
        return Support.yes() if len(seen) < 2 or seen[-2] != 4096 else Support.no("after 4096")

    assert caught("answers", supports=answer)


def test_an_answer_that_raises():
    assert caught("answers", supports=lambda request: request.no_such_field)


def test_an_answer_that_is_no_support():
    assert caught("answers", supports=lambda request: True)


def test_a_semantic_that_is_named_and_never_served():
    def answer(request):
        return Support.no("no offset") if request.weight_offset else floats(request)

    assert caught("features", supports=answer)


def test_a_layout_that_cannot_hold_a_page():
    def layout(request) -> KVLayout:
        return replace(standard_layout(request), name="own", page_bytes=64)

    assert caught("layout", op="attention", layout=layout)


def test_a_layout_that_changes():
    calls = count()

    def layout(request) -> KVLayout:
        return replace(standard_layout(request), name=f"own{next(calls)}")

    assert caught("layout", op="attention", layout=layout)


def test_ops_without_a_request_are_told_as_not_run():
    found = results(target_of(candidate("moe.dispatch", rms_norm)), op="moe.dispatch")
    notes = {result.note for result in found if result.status == "not run"}
    assert "the kit has no request for moe.dispatch yet" in notes
