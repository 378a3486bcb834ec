"""One file in its own process, with pytest and a limit."""

from __future__ import annotations

import time

import pytest
from tests.fakes.ci import source

from inferplane.ci.process import run_file

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=5)

OPTIONS = ["--inferplane-ci-suite=unit", "--inferplane-ci-platform=cpu"]


def run(root, limit: float = 60.0, **more):
    return run_file("tests/test_a.py", OPTIONS, root, limit, **more)


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_file_that_passes_is_reported(project):
    ended = run(project({"tests/test_a.py": source()}))
    assert (ended.code, ended.report.passed) == (0, 1)
    assert "1 passed" in ended.output


def test_a_test_that_hangs_is_killed_named_and_shown_with_its_stack(project, over_when_started):
    body = "import time\ndef test_a(): pass\ndef test_stuck():\n"
    body += f"    {over_when_started}\n    time.sleep(600)\n"
    ended = run(project({"tests/test_a.py": source(body)}))
    assert ended.code is None
    assert ended.report.running == "tests/test_a.py::test_stuck"
    assert "in test_stuck" in ended.stacks


def test_an_import_that_hangs_is_killed_too(project, over_when_started):
    body = f"import time\n{over_when_started}\ntime.sleep(600)\ndef test_a(): pass\n"
    ended = run(project({"tests/test_a.py": source(body)}))
    assert (ended.code, ended.report.running) == (None, "")


def test_children_that_a_test_leaves_behind_are_ended(project):
    body = (
        "import subprocess, sys, pathlib\ndef test_a():\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "    pathlib.Path('pid').write_text(str(child.pid))\n"
    )
    root = project({"tests/test_a.py": source(body)})
    assert run(root).code == 0
    pid = int((root / "pid").read_text())
    until = time.monotonic() + 5
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_alive(pid)


def test_a_stop_ends_it_at_once(project):
    body = "import time\ndef test_a(): time.sleep(600)\n"
    ended = run(project({"tests/test_a.py": source(body)}), stop=lambda: True)
    assert ended.stopped


def test_a_process_that_dies_of_a_signal_says_which(project):
    body = "import os, signal\ndef test_a(): os.kill(os.getpid(), signal.SIGKILL)\n"
    ended = run(project({"tests/test_a.py": source(body)}))
    assert (ended.code, ended.report.running) == (-9, "tests/test_a.py::test_a")
