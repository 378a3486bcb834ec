"""One mark, read as data: what is accepted, and the error for each thing that is not."""

from __future__ import annotations

import ast

import pytest

from inferplane.ci.literals import Mark, is_mark, read_mark

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)


def parse(text: str) -> tuple[Mark, list[tuple[str, str]]]:
    """The mark, and (kind, message) of what was told."""
    call = ast.parse(f"pytest.mark.ci({text})").body[0].value  # type: ignore[attr-defined]
    told: list[tuple[str, str]] = []
    return read_mark(call, lambda line, kind, message: told.append((kind, message))), told


def test_all_arguments_are_read():
    mark, told = parse('platforms=["cpu", "acme"], suite="unit", est_seconds=2.5, nightly=True')
    assert told == []
    assert (mark.platforms, mark.suite) == (("cpu", "acme"), "unit")
    assert (mark.est_seconds, mark.nightly) == (2.5, True)


def test_what_is_left_out_is_none():
    mark, _ = parse("est_seconds=1")
    assert (mark.platforms, mark.suite, mark.nightly) == (None, None, None)


def test_the_place_of_the_estimate_is_its_bytes():
    text = 'suite="ü", est_seconds=12.5'
    mark, _ = parse(text)
    place = mark.estimate_at
    assert f"pytest.mark.ci({text})".encode()[place.start : place.end] == b"12.5"


@pytest.mark.parametrize(
    ("text", "kind", "piece"),
    [
        ('suite="unit"', "estimate", "est_seconds is missing"),
        ("est_seconds=0", "estimate", "more than 0"),
        ("est_seconds=-3", "estimate", "more than 0"),
        ("est_seconds=1e999", "estimate", "more than 0"),
        ("est_seconds=True", "estimate", "number of seconds"),
        ('est_seconds="3"', "estimate", "number of seconds"),
        ("est_seconds=LONG", "not-literal", "est_seconds=LONG is no literal"),
        ("est_seconds=60 * 2", "not-literal", "60 * 2 is no literal"),
        ("est_seconds=1, suite=name()", "not-literal", "suite=name() is no literal"),
        ("est_seconds=1, **more", "not-literal", "no **"),
        ('"unit", est_seconds=1', "not-literal", "keywords only"),
        ("est_seconds=1, suit='unit'", "argument", "did you mean 'suite'?"),
        ("est_seconds=1, suite=3", "argument", "it must be a name"),
        ("est_seconds=1, platforms='cpu'", "argument", "list of names"),
        ("est_seconds=1, platforms=['cpu', 'cpu']", "argument", "named twice"),
        ("est_seconds=1, platforms=['*', 'cpu']", "argument", "stands alone"),
        ("est_seconds=1, nightly='yes'", "argument", "True or False"),
    ],
)
def test_what_cannot_be_used_is_told(text, kind, piece):
    _, told = parse(text)
    assert [k for k, _ in told] == [kind]
    assert piece in told[0][1]


@pytest.mark.parametrize(
    ("text", "yes"),
    [("pytest.mark.ci", True), ("mark.ci", True), ("pytest.mark.cis", False), ("x.ci", False)],
)
def test_a_mark_is_known_by_its_name(text, yes):
    assert is_mark(ast.parse(text, mode="eval").body, "ci") == yes


def test_an_inner_mark_takes_all_but_the_estimate_from_the_outer_one():
    outer = Mark(1, platforms=("cpu",), suite="unit", est_seconds=5, nightly=True)
    inner = Mark(9, platforms=("acme",)).inside(outer)
    assert (inner.platforms, inner.suite, inner.nightly) == (("acme",), "unit", True)
    assert inner.est_seconds is None
