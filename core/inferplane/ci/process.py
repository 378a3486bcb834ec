"""One test file in a process of its own, ended with all its children when its time is over."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from .events import Report, read_report
from .pytest_plugin import ENTRY_POINT, stacks_path

_POLL = 0.1
_STACKS_WAIT = 3.0


@dataclass(frozen=True)
class Ended:
    """code: pytest's exit status, None where the process was killed. stacks: where it hung."""

    seconds: float
    code: int | None
    stopped: bool
    output: str
    stacks: str
    report: Report


def plugin_name() -> str:
    """What `-p` takes: the entry point, or the module where it is not installed yet."""
    names = {entry.name for entry in entry_points(group="pytest11")}
    return ENTRY_POINT if ENTRY_POINT in names else "inferplane.ci.pytest_plugin"


def run_file(
    path: str,
    options: Sequence[str],
    root: Path,
    limit: float,
    stop: Callable[[], bool] = lambda: False,
) -> Ended:
    """Runs pytest on one file. limit: seconds. stop: asked often; True ends the run early."""
    with tempfile.TemporaryDirectory(prefix="inferplane-ci-") as folder:
        report, log = Path(folder) / "events", Path(folder) / "log"
        command = [sys.executable, "-m", "pytest", "-p", plugin_name(), *options]
        command += [f"--inferplane-ci-report={report}", path]
        start = time.monotonic()
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=root, stdout=output, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            stacks = Path(stacks_path(str(report)))
            try:
                stopped = _wait(process, start + limit, stop)
                code = process.poll()
                if code is None and not stopped:
                    _ask_stacks(process, stacks)
            finally:
                _end(process)
        return Ended(
            seconds=time.monotonic() - start,
            code=code,
            stopped=stopped,
            output=log.read_text(encoding="utf-8", errors="replace"),
            stacks=stacks.read_text(encoding="utf-8") if stacks.exists() else "",
            report=read_report(report),
        )


def _wait(process: subprocess.Popen[bytes], deadline: float, stop: Callable[[], bool]) -> bool:
    """Waits for the end or the deadline. Whether it was stopped before either."""
    while process.poll() is None and time.monotonic() < deadline:
        if stop():
            return True
        try:
            process.wait(_POLL)
        except subprocess.TimeoutExpired:
            continue
    return False


def _ask_stacks(process: subprocess.Popen[bytes], stacks: Path) -> None:
    """Lets the plugin write the stacks of all threads. A process without it ends of the signal."""
    os.kill(process.pid, signal.SIGUSR1)
    until = time.monotonic() + _STACKS_WAIT
    while time.monotonic() < until and process.poll() is None:
        time.sleep(_POLL)
        if stacks.exists() and stacks.stat().st_size:
            return


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills what is left of the process's session: itself, and children that it left behind."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
