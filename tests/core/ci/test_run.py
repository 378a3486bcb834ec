"""A run as a whole: states, limits, what is selected, several at once."""

from __future__ import annotations

import pytest
from tests.fakes.ci import CONFIG, installed, mark, source

from inferplane.ci.registry import load
from inferplane.ci.run import EMPTY, FAILED, HUNG, NOT_RUN, PASSED, SKIPPED, Request, Result, Run

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=10)


def run(root, platform="cpu", **request) -> list[Result]:
    registry = load(root, installed())
    job = Request("unit", platform, **request)
    jobs = registry.jobs("unit", platform, job.nightly)
    return Run(registry, job).all(jobs, lambda result: None)


def states(results: list[Result]) -> dict[str, str]:
    return {result.path.removeprefix("tests/test_"): result.state for result in results}


def test_each_end_of_a_file_has_its_state(project):
    bodies = {
        "good": "def test_a(): pass\n",
        "bad": "def test_a(): assert 0\n",
        "skip": "@pytest.mark.skip\ndef test_a(): pass\n",
        "gone": "class TestNothing: pass\n",
        "broken": "import no_such_module\ndef test_a(): pass\n",
    }
    root = project({f"tests/test_{n}.py": source(b) for n, b in bodies.items()})
    assert states(run(root, jobs=2)) == {
        "good.py": PASSED,
        "bad.py": FAILED,
        "skip.py": SKIPPED,
        "gone.py": EMPTY,
        "broken.py": FAILED,
    }


def test_a_file_that_hangs_does_not_stop_the_next_one(project, over_when_started):
    body = f"import time\ndef test_a():\n    {over_when_started}\n    time.sleep(600)\n"
    root = project({"tests/test_a.py": source(body), "tests/test_b.py": source()})
    results = run(root)
    assert states(results) == {"a.py": HUNG, "b.py": PASSED}
    assert results[0].reason == "killed after 60 s in tests/test_a.py::test_a"


def test_only_the_tests_of_the_platform_and_the_time_run(project):
    marks = {
        "test_here": mark(est_seconds=1),
        "test_there": mark(est_seconds=1, platforms=["abacus"]),
        "test_both": mark(est_seconds=1, platforms=["*"]),
        "test_night": mark(est_seconds=1, nightly=True),
        "test_other_suite": mark(est_seconds=1, suite="device", platforms=["cpu"]),
    }
    body = "import pathlib\n" + "".join(
        f"@{m}\ndef {name}(): pathlib.Path('{name}').touch()\n" for name, m in marks.items()
    )

    def ran(**request) -> set[str]:
        (result,) = run(root, **request)
        names = {path.name for path in root.glob("test_*")}
        for name in names:
            (root / name).unlink()
        assert (result.state, result.passed) == (PASSED, len(names))
        return names

    root = project({"tests/test_a.py": source(body)})
    assert ran() == {"test_here", "test_both"}
    assert ran(nightly=True) == {"test_here", "test_both", "test_night"}
    assert ran(platform="abacus") == {"test_there", "test_both"}


def test_what_the_whole_limit_leaves_out_is_not_run(project):
    config = CONFIG.replace("file-seconds = 60", "total-seconds = 2")
    slow = source("import time\ndef test_a(): time.sleep(600)\n")
    results = run(project({"tests/test_a.py": slow, "tests/test_b.py": source()}, config))
    assert states(results) == {"a.py": HUNG, "b.py": NOT_RUN}
    assert results[1].reason == "the suite's 2 s were over"


def test_arguments_for_pytest_are_passed_on(project):
    body = "def test_good(): pass\ndef test_bad(): assert 0\n"
    (result,) = run(project({"tests/test_a.py": source(body)}), pytest=("-k", "good"))
    assert (result.state, result.passed) == (PASSED, 1)


def test_seconds_are_split_by_mark(project):
    body = f"import time\n@{mark(est_seconds=1)}\ndef test_a(): time.sleep(0.3)\n"
    body += "def test_b(): pass\n"
    (result,) = run(project({"tests/test_a.py": source(body)}))
    assert 0.3 <= result.marks["test_a"] < result.seconds
    assert sum(result.marks.values()) == pytest.approx(result.seconds)
