"""Each way in which a registration is wrong gives its own error, with its place."""

from __future__ import annotations

import pytest
from tests.fakes.ci import CONFIG, installed, mark, source

from inferplane.ci.problems import Problem
from inferplane.ci.registry import collect

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)


def problems(project, text: str, config: str = CONFIG) -> list[Problem]:
    return collect(project({"tests/test_a.py": text}, config), installed("acme")).problems


def test_a_right_registration_has_no_problem(project):
    assert problems(project, source(platforms=["cpu", "acme", "abacus"])) == []


def test_a_file_without_a_mark(project):
    (problem,) = problems(project, "def test_a(): pass\n")
    assert problem.kind == "unregistered"
    assert "add pytestmark = pytest.mark.ci(" in problem.message


def test_a_test_without_a_mark_in_a_file_that_has_some(project):
    text = f"import pytest\n@{mark(suite='unit', est_seconds=1)}\ndef test_a(): pass\n"
    (problem,) = problems(project, text + "def test_b(): pass\n")
    assert (problem.kind, problem.line) == ("unregistered", 4)
    assert problem.message.startswith("test_b has no ci mark")


@pytest.mark.parametrize(
    ("arguments", "kind", "piece"),
    [
        ({"suite": "unti"}, "unknown-suite", "did you mean 'unit'?"),
        ({"platforms": ["acne"]}, "unknown-platform", "did you mean 'acme'?"),
        ({"platforms": []}, "nowhere", "runs nowhere"),
        ({"suite": "device"}, "nowhere", "suite 'device' no default"),
        ({"est_seconds": 61}, "too-long", "ends a file after 60 s"),
    ],
)
def test_a_mark_that_names_what_is_not_there(project, arguments, kind, piece):
    (problem,) = problems(project, source(**arguments))
    assert (problem.kind, problem.line) == (kind, 3)
    assert piece in problem.message


def test_an_unknown_platform_lists_the_known_ones(project):
    (problem,) = problems(project, source(platforms=["zebra"]))
    assert "platforms: abacus, acme, cpu; install its plugin, or declare it" in problem.message


def test_a_suite_is_needed(project):
    (problem,) = problems(project, f"import pytest\npytestmark = {mark(est_seconds=1)}\n")
    assert problem.message == "suite is missing; suites: device, unit"


def test_a_platform_without_a_runner_is_nowhere(project):
    config = CONFIG + "runs-on = []\n"
    (problem,) = problems(project, source(platforms=["abacus"]), config)
    assert (problem.kind, "no runner" in problem.message) == ("nowhere", True)


def test_a_platform_without_a_runner_beside_one_with_is_somewhere(project):
    config = CONFIG + "runs-on = []\n"
    assert problems(project, source(platforms=["abacus", "cpu"]), config) == []


def test_estimates_of_one_file_add_up_against_the_limit(project):
    body = f"def test_a(): pass\n@{mark(est_seconds=40)}\ndef test_b(): pass\n"
    (problem,) = problems(project, source(body, est_seconds=40))
    assert "80 in all" in problem.message


def test_a_suites_default_platform_must_exist(project):
    config = CONFIG.replace('platforms = ["cpu"]', 'platforms = ["cpuu"]')
    kinds = [(p.path, p.kind) for p in problems(project, source(platforms=["cpu"]), config)]
    assert kinds == [("pyproject.toml", "unknown-platform")]
