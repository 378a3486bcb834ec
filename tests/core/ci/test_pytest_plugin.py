"""The plugin in a pytest of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.fakes.ci import source

from inferplane.ci.process import plugin_name

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=3)


def run_pytest(root, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", plugin_name(), "--strict-markers", *options]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)


def test_the_marker_is_known_and_changes_nothing(project):
    done = run_pytest(project({"tests/test_a.py": source() + "def test_b(): pass\n"}))
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_tests_without_a_mark_are_not_selected(project):
    root = project({"tests/test_a.py": source(), "tests/test_b.py": "def test_b(): pass\n"})
    done = run_pytest(root, "--inferplane-ci-suite=unit")
    assert "1 passed, 1 deselected" in done.stdout


def test_the_fixture_names_the_platform(project):
    body = "def test_a(ci_platform): assert ci_platform == 'abacus'\n"
    root = project({"tests/test_a.py": source(body, platforms=["*"])})
    assert run_pytest(root, "--inferplane-ci-platform=abacus").returncode == 0
    assert "'cpu' == 'abacus'" in run_pytest(root).stdout


def test_it_imports_nothing_heavy():
    code = (
        "import sys, pytest; before = set(sys.modules); import inferplane.ci.pytest_plugin\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "sys.exit(bool(new & {'torch', 'pydantic', 'rich', 'typer', 'pluggy', 'numpy'}))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
