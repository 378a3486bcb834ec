"""docs/ci.md shows only what is accepted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
import yaml

from inferplane.ci.cli import app
from inferplane.ci.config import CiConfig, PlatformTable, Suite, load_config
from inferplane.ci.literals import ARGUMENTS
from inferplane.ci.marks import read

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=1)

TEXT = (Path(__file__).parent.parent / "docs" / "ci.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert found
    return found


def test_the_configuration_is_valid(tmp_path):
    for block in blocks("toml"):
        (tmp_path / "pyproject.toml").write_text(block)
        assert load_config(tmp_path).suites


def test_the_marks_are_read():
    for block in blocks("python"):
        reading = read("import pytest\n" + block, "example.py")
        assert reading.problems == []
        assert reading.entries


def test_the_workflow_gives_inputs_that_there_are():
    path = Path(__file__).parent.parent / ".github" / "workflows" / "ci.yml"
    inputs = yaml.safe_load(path.read_text(encoding="utf-8"))[True]["workflow_call"]["inputs"]
    for block in blocks("yaml"):
        (job,) = yaml.safe_load(block)["jobs"].values()
        assert set(job["with"]) <= set(inputs)


def test_every_command_argument_and_key_has_its_word():
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    keys = [key for model in (CiConfig, Suite, PlatformTable) for key in model.keys()]  # noqa: SIM118
    wanted = {*commands, *ARGUMENTS, *keys}
    missing = {w for w in wanted if not re.search(rf"(?<![\w-]){re.escape(w)}\b", TEXT)}
    assert missing == set()


def test_the_ten_lines_call_commands_that_there_are():
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    called = re.findall(r"^inferplane-ci (\w+)", TEXT, re.MULTILINE)
    assert set(called) <= set(commands)
    assert len(blocks("")[0].splitlines()) <= 10
