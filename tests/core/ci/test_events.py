"""What the pytest plugin's lines add up to."""

from __future__ import annotations

import json

import pytest

from inferplane.ci.events import Report, by_scope, name_of, read_report

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)


def phases(test: str, *outcomes: str, seconds: float = 1.0) -> list[dict]:
    """The events of one test: as many phases as outcomes."""
    whens = ("setup", "call", "teardown")
    middle = [
        {"event": when, "test": test, "outcome": outcome, "seconds": seconds}
        for when, outcome in zip(whens, outcomes, strict=False)
    ]
    return [{"event": "start", "test": test}, *middle, {"event": "finish", "test": test}]


def report_of(tmp_path, *events: dict, end: str = "") -> Report:
    path = tmp_path / "events"
    path.write_text("".join(json.dumps(event) + "\n" for event in events) + end)
    return read_report(path)


@pytest.mark.parametrize(
    ("outcomes", "counts"),
    [
        (("passed", "passed", "passed"), (1, 0, 0)),
        (("passed", "failed", "passed"), (0, 1, 0)),
        (("passed", "passed", "failed"), (0, 1, 0)),
        (("failed", "passed"), (0, 1, 0)),
        (("skipped", "passed"), (0, 0, 1)),
    ],
)
def test_each_test_counts_once(tmp_path, outcomes, counts):
    report = report_of(tmp_path, *phases("a.py::test_a", *outcomes))
    assert (report.passed, report.failed, report.skipped) == counts


def test_the_test_that_did_not_end_is_running(tmp_path):
    events = [*phases("a.py::test_a", "passed"), {"event": "start", "test": "a.py::test_b"}]
    assert report_of(tmp_path, *events).running == "a.py::test_b"


def test_a_line_that_was_cut_off_is_passed_over(tmp_path):
    report = report_of(tmp_path, *phases("a.py::test_a", "passed"), end='{"event": "sta')
    assert report.passed == 1


def test_no_file_is_an_empty_report(tmp_path):
    assert read_report(tmp_path / "nothing") == Report()


@pytest.mark.parametrize(
    ("nodeid", "name"),
    [("a/b.py::test_a", "test_a"), ("a.py::TestX::test_y[1::2-[3]]", "TestX::test_y")],
)
def test_parameters_are_not_in_a_name(nodeid, name):
    assert name_of(nodeid) == name


def test_seconds_go_to_the_innermost_mark_and_the_rest_to_the_first():
    report = Report(seconds={"test_a": 1.0, "TestX::test_b": 2.0, "TestX::test_c": 4.0})
    spent = by_scope(report, ["", "TestX", "TestX::test_c"], wall=10.0)
    assert spent == {"": 4.0, "TestX": 2.0, "TestX::test_c": 4.0}
