"""A run that is ended from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from tests.fakes.ci import source

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=3)


def wait_for(condition, seconds: float = 30.0) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    return condition()


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_no_test_process_outlives_the_run(project, number):
    body = (
        "import os, pathlib, time\n"
        "def test_a():\n"
        "    pathlib.Path('part').write_text(str(os.getpid()))\n"
        "    pathlib.Path('part').rename('pid')\n"
        "    time.sleep(600)\n"
    )
    root = project({"tests/test_a.py": source(body)})
    command = [sys.executable, "-m", "inferplane.ci.cli", "run", "--suite=unit", "--platform=cpu"]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        assert wait_for((root / "pid").exists)
        process.send_signal(number)
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.communicate()
    assert is_gone(int((root / "pid").read_text()))
