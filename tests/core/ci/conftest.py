"""Projects with tests in a temporary folder, and the command line on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.fakes.ci import CONFIG


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """(files, config): a project's folder. Files are by path, their sources as values.

    A pytest that runs there loads none of the plugins that are installed here, to start faster.
    """
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def make(files: dict[str, str], config: str = CONFIG) -> Path:
        folder = tmp_path / "project"
        (folder / "tests").mkdir(parents=True, exist_ok=True)
        table = config if "[tool.inferplane-ci]" in config else "[tool.inferplane-ci]\n" + config
        (folder / "pyproject.toml").write_text(table + "\n[tool.pytest.ini_options]\n")
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return folder

    return make


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def ci(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """(root, command, arguments): `inferplane-ci` in this process."""

    def call(root: Path, command: str, *arguments: str) -> Done:
        from inferplane.ci.cli import app
        from inferplane.cli.main import guarded

        code = guarded(app, "inferplane-ci", [command, f"--root={root}", *arguments])
        return Done(code, *capsys.readouterr())

    return call


@pytest.fixture
def ci_process() -> Callable[..., Done]:
    """(root, arguments, paths): `inferplane-ci` in its own process, with paths before others."""

    def call(root: Path, *arguments: str, paths: tuple[Path, ...] = ()) -> Done:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
        done = subprocess.run(
            [sys.executable, "-m", "inferplane.ci.cli", *arguments],
            cwd=root, env=environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    return call


class JumpingClock:
    """The real time, and an hour more once the file `started` is there: a limit without waiting."""

    sleep = staticmethod(time.sleep)

    def __init__(self, started: Path) -> None:
        self.started = started

    def monotonic(self) -> float:
        return time.monotonic() + 3600 * self.started.exists()


@pytest.fixture
def over_when_started(project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> str:
    """Source that lets the limit of a process be over as soon as it has run."""
    started = project({}) / "started"
    monkeypatch.setattr("inferplane.ci.process.time", JumpingClock(started))
    return f"__import__('pathlib').Path({str(started)!r}).touch()"
