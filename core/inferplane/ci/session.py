"""What a run tells on standard error while it goes on, and its record of durations."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from inferplane.cli.show import console

from .durations import record
from .partition import load
from .registry import Job, Registry
from .run import Request, Result, Run
from .tables import failure_text


def run_jobs(
    registry: Registry, request: Request, jobs: Sequence[Job], durations: Path | None
) -> list[Result]:
    """Runs the jobs, shows each result as it comes, and records the seconds of what passed."""
    platform = registry.platforms[request.platform]
    err = console(stderr=True)
    err.print(
        f"{request.suite} on {request.platform}: {len(jobs)} files, about {load(jobs):g} s",
        markup=False,
    )
    if not platform.distribution:
        err.print(
            f"warning: platform {platform.name!r} is declared, but no plugin that is installed "
            "here offers it",
            markup=False,
        )
    lock = threading.Lock()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    ) as progress:
        task = progress.add_task("files", total=load(jobs) or None)

        def tell(result: Result) -> None:
            with lock:
                progress.advance(task, result.est_seconds)
                err.print(f"{result.state:8} {result.seconds:7.1f} s  {escape(result.path)}")
                if not result.good and result.output:
                    err.print(failure_text(result), markup=False)

        with _ended_by_sigterm():
            results = Run(registry, request).all(jobs, tell)
    if durations is not None:
        record(durations, request, results)
    return results


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends a run like Ctrl-C, so that no test process is left behind with a device."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
