"""Collecting a project, and what a run selects of it."""

from __future__ import annotations

import pytest
from tests.fakes.ci import CONFIG, installed, mark, source

from inferplane.ci.registry import collect, load
from inferplane.errors import UserError

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)


def jobs(root, suite="unit", platform="cpu", nightly=False) -> dict[str, float]:
    registry = load(root, installed("acme"))
    return {job.path: job.est_seconds for job in registry.jobs(suite, platform, nightly)}


def test_a_suites_platforms_are_the_default(project):
    root = project({"tests/test_a.py": source(est_seconds=4)})
    assert jobs(root) == {"tests/test_a.py": 4}
    assert jobs(root, platform="acme") == {}


def test_a_mark_names_its_own_platforms(project):
    root = project({"tests/test_a.py": source(platforms=["acme"])})
    assert jobs(root) == {}
    assert jobs(root, platform="acme") == {"tests/test_a.py": 1}


@pytest.mark.parametrize("platform", ["cpu", "acme", "abacus"])
def test_a_star_is_every_platform_installed_or_declared(project, platform):
    root = project({"tests/test_a.py": source(platforms=["*"])})
    assert jobs(root, platform=platform) == {"tests/test_a.py": 1}


def test_a_nightly_run_has_every_commits_tests_too(project):
    body = f"def test_a(): pass\n@{mark(est_seconds=30, nightly=True)}\ndef test_b(): pass\n"
    root = project({"tests/test_a.py": source(body)})
    assert jobs(root) == {"tests/test_a.py": 1}
    assert jobs(root, nightly=True) == {"tests/test_a.py": 31}


def test_a_file_may_have_tests_of_two_suites(project):
    body = f"def test_a(): pass\n@{mark(suite='device', platforms=['acme'], est_seconds=5)}\n"
    root = project({"tests/test_a.py": source(body + "def test_b(): pass\n")})
    assert jobs(root) == {"tests/test_a.py": 1}
    assert jobs(root, "device", "acme") == {"tests/test_a.py": 5}


def test_roots_are_globs_and_folders_that_are_no_tests_are_skipped(project):
    names = ["plugins/a/tests/test_a.py", "plugins/a/tests/b/test_b.py", "tests/test_c.py"]
    others = ["plugins/a/tests/.venv/test_x.py", "tests/help.py", "tests/fake/test_x.py"]
    config = '[tool.inferplane-ci]\nroots = ["tests", "plugins/*/tests"]\n'
    config += 'exclude = ["tests/fake/*"]\n' + CONFIG
    root = project({name: source() for name in names} | dict.fromkeys(others, ""), config)
    assert [file.path for file in load(root, installed()).files] == sorted(names)


def test_a_root_that_is_not_there_is_an_error(project):
    root = project({}, '[tool.inferplane-ci]\nroots = ["test"]\n' + CONFIG)
    with pytest.raises(UserError, match="no folder 'test'"):
        collect(root, installed())


def test_a_file_of_two_roots_is_a_problem(project):
    config = '[tool.inferplane-ci]\nroots = ["tests", "tests/a"]\n' + CONFIG
    found = collect(project({"tests/a/test_a.py": source()}, config), installed())
    assert [(p.kind, p.path) for p in found.problems] == [("duplicate", "tests/a/test_a.py")]


def test_load_lists_problems_up_to_ten(project):
    root = project({f"tests/test_{n:02}.py": "" for n in range(12)})
    with pytest.raises(UserError) as caught:
        load(root, installed())
    text = str(caught.value)
    assert text.startswith("12 problems of registration:\n  tests/test_00.py: is not registered")
    assert text.endswith("... and 2 more: inferplane-ci validate")


@pytest.mark.parametrize(
    ("suite", "platform", "piece"),
    [
        ("unt", "cpu", "no suite 'unt' (did you mean 'unit'?); suites: device, unit"),
        ("unit", "acm", "no platform 'acm' (did you mean 'acme'?); platforms: abacus, acme, cpu"),
    ],
)
def test_unknown_names_list_the_known_ones(project, suite, platform, piece):
    registry = load(project({"tests/test_a.py": source()}), installed("acme"))
    with pytest.raises(UserError) as caught:
        registry.jobs(suite, platform)
    assert piece in str(caught.value)
