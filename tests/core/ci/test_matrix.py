"""The rows for GitHub Actions."""

from __future__ import annotations

import pytest
from tests.fakes.ci import CONFIG, installed, mark, source

from inferplane.ci.matrix import check_size, matrix, with_runners
from inferplane.ci.registry import load
from inferplane.errors import UserError

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)


def rows(project, files: dict[str, str], config: str = CONFIG, nightly: bool = False):
    return matrix(load(project(files, config), installed("acme")), nightly)


def test_every_platform_with_tests_has_rows(project):
    found = rows(project, {"tests/test_a.py": source(platforms=["*"])})
    assert [row["platform"] for row in found] == ["abacus", "acme", "cpu"]


def test_a_platform_without_tests_has_none(project):
    assert [row["platform"] for row in rows(project, {"tests/test_a.py": source()})] == ["cpu"]


def test_a_row_has_all_that_a_job_needs(project):
    config = '[tool.inferplane-ci]\npython = ["3.11"]\n' + CONFIG
    config += '[tool.inferplane-ci.platforms.acme]\ninstall = ["-e", "my plugin"]\n'
    (row,) = rows(project, {"tests/test_a.py": source(platforms=["acme"], est_seconds=3)}, config)
    assert row == {
        "platform": "acme",
        "suite": "unit",
        "part": 1,
        "parts": 1,
        "runs-on": ["self-hosted", "acme"],
        "python": "3.11",
        "est_seconds": 3,
        "hardware": True,
        "nightly": False,
        "install": "-e 'my plugin'",
        "timeout-minutes": 80,
    }


def test_a_large_suite_is_split_for_each_python(project):
    config = '[tool.inferplane-ci]\npython = ["3.11", "3.13"]\n' + CONFIG
    files = {f"tests/test_{n}.py": source(est_seconds=6) for n in range(3)}
    found = [(row["python"], row["part"], row["parts"]) for row in rows(project, files, config)]
    assert found == [("3.11", 1, 2), ("3.11", 2, 2), ("3.13", 1, 2), ("3.13", 2, 2)]


def test_nightly_rows_count_nightly_tests(project):
    body = f"def test_a(): pass\n@{mark(est_seconds=8, nightly=True)}\ndef test_b(): pass\n"
    files = {"tests/test_a.py": source(body)}
    assert [row["est_seconds"] for row in rows(project, files)] == [1]
    assert [row["est_seconds"] for row in rows(project, files, nightly=True)] == [9]


def test_a_platform_without_labels_has_no_rows(project):
    config = CONFIG + "runs-on = []\n"
    found = rows(project, {"tests/test_a.py": source(platforms=["*"])}, config)
    assert [row["platform"] for row in found] == ["acme", "cpu"]


@pytest.mark.parametrize(
    ("runners", "ready", "waiting"),
    [
        ([], ["cpu"], ["abacus", "acme"]),
        (["acme"], ["acme", "cpu"], ["abacus"]),
        (["all"], ["abacus", "acme", "cpu"], []),
    ],
)
def test_hardware_waits_for_a_runner(project, runners, ready, waiting):
    found = rows(project, {"tests/test_a.py": source(platforms=["*"])})
    split = with_runners(found, runners)
    assert [[row["platform"] for row in part] for part in split] == [ready, waiting]


def test_more_rows_than_github_takes_are_an_error():
    check_size([{}] * 256)
    with pytest.raises(UserError, match="257 rows"):
        check_size([{}] * 257)
