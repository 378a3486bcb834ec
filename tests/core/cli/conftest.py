"""Runs the command line in a process of its own, as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run() -> Run:
    def call(*arguments: str, stdin: str = "", **variables: str):
        command = [sys.executable, "-m", "inferplane.cli.main", *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, env=environment, timeout=120
        )

    return call
