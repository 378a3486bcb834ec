"""What the source of a test file says, without importing it."""

from __future__ import annotations

import sys

import pytest
from tests.fakes.ci import mark, source

from inferplane.ci.marks import read

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)


def kinds(text: str) -> list[tuple[str, int]]:
    return [(problem.kind, problem.line) for problem in read(text, "test_x.py").problems]


def scopes(text: str) -> dict[str, tuple[str, ...]]:
    """The tests that each mark covers, by the mark's scope."""
    reading = read(text, "test_x.py")
    assert reading.problems == []
    return {entry.scope: entry.tests for entry in reading.entries}


def test_a_module_mark_covers_every_test():
    body = "def test_a(): pass\nasync def test_b(): pass\nclass TestC:\n  def test_d(self): pass\n"
    assert scopes(source(body)) == {"": ("test_a", "test_b", "TestC::test_d")}


@pytest.mark.parametrize(
    "form",
    [
        "pytestmark = {}",
        "pytestmark = [{}]",
        "pytestmark = (pytest.mark.slow, {})",
        "pytestmark: object = {}",
    ],
)
def test_every_form_of_pytestmark_is_read(form):
    text = form.format(mark(suite="unit", est_seconds=1)) + "\ndef test_a(): pass\n"
    assert scopes(text) == {"": ("test_a",)}


def test_a_decorator_overrides_for_its_test_alone():
    body = f"def test_a(): pass\n@{mark(est_seconds=9, nightly=True)}\ndef test_b(): pass\n"
    reading = read(source(body), "test_x.py")
    first, second = reading.entries
    assert (first.scope, first.tests, first.mark.nightly) == ("", ("test_a",), None)
    assert (second.scope, second.tests, second.mark.nightly) == ("test_b", ("test_b",), True)
    assert (second.mark.suite, second.mark.est_seconds) == ("unit", 9)


def test_a_class_mark_covers_its_tests_but_for_those_with_their_own():
    body = (
        f"@{mark(est_seconds=5, platforms=['a'])}\nclass TestA:\n  def test_b(self): pass\n"
        f"  @{mark(est_seconds=2)}\n  def test_c(self): pass\n"
    )
    reading = read(source(body), "test_x.py")
    assert {e.scope: e.tests for e in reading.entries} == {
        "TestA": ("TestA::test_b",),
        "TestA::test_c": ("TestA::test_c",),
    }
    assert reading.entries[1].mark.platforms == ("a",)


def test_pytestmark_in_a_class_is_a_class_mark():
    body = f"class TestA:\n  pytestmark = {mark(est_seconds=5)}\n  def test_b(self): pass\n"
    assert scopes(source(body)) == {"TestA": ("TestA::test_b",)}


def test_a_class_that_only_inherits_tests_is_covered():
    assert scopes(source("class TestA(Kit): pass\n")) == {"": ("TestA",)}


def test_tests_without_a_mark_are_named():
    body = f"import pytest\n@{mark(suite='unit', est_seconds=1)}\ndef test_a(): pass\n"
    body += "def test_b(): pass\nclass TestC(Kit): pass\n"
    assert [(u.name, u.line) for u in read(body, "x").unmarked] == [("test_b", 4), ("TestC", 5)]


def test_functions_that_are_no_tests_are_left_alone():
    assert scopes(source("def help(): pass\ndef test_a(): pass\n")) == {"": ("test_a",)}


@pytest.mark.parametrize(
    "line",
    [
        "pytestmark = [pytest.mark.ci(est_seconds=1)] + more",
        "if sys.platform:\n  pytestmark = pytest.mark.ci(est_seconds=1)",
        "marks = pytest.mark.ci",
        "x = pytest.param(1, marks=pytest.mark.ci(est_seconds=1))",
        "pytestmark = pytest.mark.ci",
    ],
)
def test_a_mark_that_cannot_be_read_is_an_error_with_its_line(line):
    text = f"import pytest\n{line}\n"
    assert kinds(text) == [("not-literal", 1 + len(line.splitlines()))]


def test_two_marks_on_one_test_are_an_error():
    twice = f"@{mark(suite='unit', est_seconds=1)}\n" * 2
    assert kinds(f"{twice}def test_a(): pass\n") == [("duplicate", 2)]


def test_a_second_pytestmark_is_an_error():
    text = source() + f"pytestmark = {mark(suite='unit', est_seconds=1)}\n"
    assert ("duplicate", 6) in kinds(text)


def test_the_plain_nightly_marker_needs_a_nightly_mark():
    body = "@pytest.mark.nightly\ndef test_a(): pass\n"
    assert kinds(source(body)) == [("nightly", 6)]


def test_a_nightly_mark_beside_the_plain_marker_is_right():
    body = f"@pytest.mark.nightly\n@{mark(est_seconds=9, nightly=True)}\ndef test_a(): pass\n"
    assert kinds(source(body)) == []


def test_a_file_that_cannot_be_parsed_is_one_problem_with_its_line():
    assert kinds("import pytest\ndef (:\n") == [("syntax", 2)]


def test_nothing_of_the_file_runs():
    text = source("raise SystemExit\nimport no_such_module\ndef test_a(): pass\n")
    assert scopes(text) == {"": ("test_a",)}
    assert "no_such_module" not in sys.modules
