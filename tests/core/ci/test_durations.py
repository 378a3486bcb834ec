"""Measured seconds: kept, compared, proposed."""

from __future__ import annotations

import pytest
from tests.fakes.ci import installed, mark, source

from inferplane.ci.durations import far, load_durations, propose, record, stale
from inferplane.ci.registry import load
from inferplane.ci.run import FAILED, PASSED, Request, Result
from inferplane.errors import UserError

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)
CPU = Request("unit", "cpu")


def result(path: str, state: str = PASSED, **marks: float) -> Result:
    """marks: by scope; "module" stands for ""."""
    spent = {name.replace("module", ""): seconds for name, seconds in marks.items()}
    return Result(path, state, 1.0, seconds=sum(spent.values()), marks=spent)


def recorded(tmp_path, *runs: list[Result]):
    path = tmp_path / "durations.json"
    for results in runs:
        record(path, CPU, results)
    return path


def test_runs_are_added_to_the_file(tmp_path):
    path = recorded(tmp_path, [result("a", module=1)], [result("a", module=2)])
    assert [run.files["a"].seconds for run in load_durations(path).runs] == [1, 2]


def test_only_what_passed_is_kept(tmp_path):
    path = recorded(tmp_path, [result("a", FAILED, module=1), result("b", module=1)])
    assert list(load_durations(path).runs[0].files) == ["b"]


@pytest.mark.parametrize(
    ("measured", "estimate", "yes"),
    [
        (14, 10, True),
        (13, 10, False),
        (6, 10, True),
        (0.1, 1, False),
        (1.9, 1, False),
        (3, 1, True),
    ],
)
def test_far_is_over_30_percent_and_over_a_second(measured, estimate, yes):
    assert far(measured, estimate) == yes


def test_the_median_is_proposed(project, tmp_path):
    name = "tests/test_a.py"
    registry = load(project({name: source(est_seconds=1)}), installed())
    path = recorded(tmp_path, *([result(name, module=s)] for s in (8.4, 100.0, 3.0)))
    (proposal,) = propose(registry, [load_durations(path)])
    assert (proposal.old, proposal.new, proposal.measured) == (1, 8, (3.0, 8.4, 100.0))


def test_each_mark_has_its_own_proposal(project, tmp_path):
    name = "tests/test_a.py"
    body = f"def test_a(): pass\n@{mark(est_seconds=20)}\ndef test_b(): pass\n"
    registry = load(project({name: source(body, est_seconds=2)}), installed())
    path = recorded(tmp_path, [result(name, module=2.1, test_b=5.0)])
    assert [(p.scope, p.new) for p in propose(registry, [load_durations(path)])] == [("test_b", 5)]


def test_an_estimate_is_never_below_one_second(project, tmp_path):
    name = "tests/test_a.py"
    registry = load(project({name: source(est_seconds=9)}), installed())
    path = recorded(tmp_path, [result(name, module=0.2)])
    assert propose(registry, [load_durations(path)])[0].new == 1


def test_what_is_not_there_any_more_is_stale(project, tmp_path):
    registry = load(project({"tests/test_a.py": source()}), installed())
    path = recorded(tmp_path, [result("tests/test_gone.py", module=1)])
    record(path, Request("lost", "void"), [result("tests/test_a.py", test_old=1)])
    gone = [problem.message.split(" is not there")[0] for problem in stale(registry, path)]
    assert gone == [
        "tests/test_gone.py",
        "suite 'lost'",
        "platform 'void'",
        "tests/test_a.py::test_old",
    ]


@pytest.mark.parametrize("text", ["[]", "{", '{"version": 2}', '{"runs": [{"suite": "a"}]}'])
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match="no durations file"):
        load_durations(tmp_path / "x.json")


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        load_durations(tmp_path / "x.json")
