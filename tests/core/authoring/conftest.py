"""Runs one half of `plugin check`, as the command does, on a plugin of the fixtures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.packages import install_broken


@pytest.fixture
def half(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """(case, "pure" or "loaded"): its JSON."""

    def run(case: str, which: str, **variables: str) -> dict[str, Any]:
        site = tmp_path / "site"
        if not site.exists():
            site.mkdir()
            install_broken(site, case)
        command = [sys.executable, "-m", f"inferplane.authoring.{which}", "broken"]
        environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", **variables}
        done = subprocess.run(
            [*command, "inferplane-broken"],
            capture_output=True,
            text=True,
            env=environment,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def codes(half: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, str]]:
    """(case, half): the findings that are no notes, code -> message."""

    def run(case: str, which: str) -> dict[str, str]:
        rows = half(case, which)["findings"]
        return {row["code"]: row["message"] for row in rows if row["severity"] != "note"}

    return run
