"""Runs the checks in `interpreted/`, each file in a process with Triton's interpreter (level V2i).

By hand: TRITON_INTERPRET=1 pytest -o python_files='check_*.py' plugins/triton/tests/interpreted
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import pytest


def _version(name: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in version(name).split(".")[:2])
    except PackageNotFoundError:
        return (0,)


pytestmark = [
    pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=150),
    pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed"),
    pytest.mark.skipif(
        _version("triton") < (3, 7) and _version("numpy") >= (2, 4),
        reason="the interpreter of Triton 3.6 needs numpy before 2.4",
    ),
]

FOLDER = Path(__file__).parent / "interpreted"
FILES = sorted(path.name for path in FOLDER.glob("check_*.py"))
NIGHTLY = [name for name in FILES if "mark.nightly" in (FOLDER / name).read_text(encoding="utf-8")]


def run(name: str, marks: str, seconds: int) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "python_files=check_*.py"]
    command = [sys.executable, "-m", "pytest", *options, "-m", marks, str(FOLDER / name)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert re.search(r"\b[1-9]\d* passed", done.stdout), done.stdout


@pytest.mark.parametrize("name", FILES)
def test_in_the_interpreter(name):
    run(name, "not nightly", 280)


@pytest.mark.ci(nightly=True, est_seconds=500)
@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NIGHTLY)
def test_in_the_interpreter_at_length(name):
    run(name, "nightly", 3500)
