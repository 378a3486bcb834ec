"""The workflows of the repository: their shape, and that they run what `inferplane-ci` prints."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from tests.fakes.ci import CONFIG, installed, source

from inferplane.ci.cli import app
from inferplane.ci.matrix import matrix
from inferplane.ci.platforms import known_platforms
from inferplane.ci.registry import collect

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=3)

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
IN_TREE = ("cpu", "sim", "example", "cuda", "rocm", "npu", "musa", "xpu")


def workflow(name: str) -> dict[str, Any]:
    # YAML 1.1 reads the key `on` as true
    read = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    return {("on" if key is True else key): value for key, value in read.items()}


def expressions(value: Any) -> set[str]:
    """All that stands in ${{ }}."""
    return set(re.findall(r"\$\{\{\s*(.+?)\s*\}\}", yaml.safe_dump(value, width=10_000)))


def scripts(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job.get("steps", ()) if "run" in step]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_jobs_need_jobs_that_are_there_and_have_limits(path):
    jobs = workflow(path.name)["jobs"]
    for name, job in jobs.items():
        needs = job.get("needs", [])
        assert set([needs] if isinstance(needs, str) else needs) <= set(jobs), name
        assert "uses" in job or ("timeout-minutes" in job and "runs-on" in job), name


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_may_only_read(path):
    assert workflow(path.name)["permissions"] == {"contents": "read"}


def test_ci_can_be_called_and_has_an_input_for_each_one_it_uses():
    ci = workflow("ci.yml")
    inputs = set(ci["on"]["workflow_call"]["inputs"])
    used = {m for e in expressions(ci["jobs"]) for m in re.findall(r"inputs\.([\w-]+)", e)}
    assert used == inputs


def test_the_tests_take_their_matrix_from_inferplane_ci():
    jobs = workflow("ci.yml")["jobs"]
    (step,) = [step for step in jobs["plan"]["steps"] if step.get("id") == "matrix"]
    assert "inferplane-ci matrix" in step["run"]
    assert jobs["plan"]["outputs"]["matrix"] == "${{ steps.matrix.outputs.matrix }}"
    assert jobs["tests"]["strategy"]["matrix"] == "${{ fromJSON(needs.plan.outputs.matrix) }}"
    assert jobs["tests"]["runs-on"] == "${{ matrix.runs-on }}"
    assert any("inferplane-ci run" in script for script in scripts(jobs["tests"]))


def test_the_tests_use_only_what_a_row_has_and_all_that_places_them(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "pyproject.toml").write_text("[tool.inferplane-ci]\n" + CONFIG)
    (tmp_path / "tests" / "test_a.py").write_text(source())
    row = matrix(collect(tmp_path, installed()))[0]
    tests = workflow("ci.yml")["jobs"]["tests"]
    used = {m for e in expressions(tests) for m in re.findall(r"matrix\.([\w-]+)", e)}
    assert used <= set(row)
    assert {"platform", "suite", "part", "parts", "runs-on", "python", "install"} <= used


def test_every_command_in_the_workflows_exists():
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    text = "\n".join(path.read_text(encoding="utf-8") for path in WORKFLOWS)
    called = set(re.findall(r"^[^#\n]*inferplane-ci (\w+)", text, re.MULTILINE))
    assert called
    assert called <= commands


def test_our_workflow_gives_only_inputs_that_there_are():
    given = workflow("tests.yml")["jobs"]["matrix"]
    assert given["uses"] == "./.github/workflows/ci.yml"
    assert set(given["with"]) <= set(workflow("ci.yml")["on"]["workflow_call"]["inputs"])


def test_pull_requests_never_reach_kept_machines():
    runners = workflow("tests.yml")["jobs"]["matrix"]["with"]["runners"]
    assert "github.event_name == 'pull_request' && 'none'" in runners


def test_every_platform_of_this_repository_is_in_the_matrix():
    registry = collect(ROOT)
    rows = {row["platform"]: row["hardware"] for row in matrix(registry)}
    assert set(IN_TREE) <= set(rows)
    assert {name for name in IN_TREE if not rows[name]} == {"cpu", "sim", "example"}


def test_every_test_file_of_this_repository_is_registered():
    assert [str(problem) for problem in collect(ROOT).problems] == []


def test_hardware_labels_name_their_platform():
    """So that no job can land on another vendor's machine."""
    platforms = known_platforms(collect(ROOT).config)
    hardware = {p.name: p.runs_on for p in platforms.values() if p.hardware}
    assert {name for name, labels in hardware.items() if name not in labels} == set()
