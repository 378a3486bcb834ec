"""`inferplane tune` for the model's kernels within a time limit: the files lie in `tuned/`, to be
committed beside the kernels. Configurations that differ least from the default come first."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .job import Job, NotRun
from .kit import processes


class Nearest:
    """A kernel's `Tunable`; the configurations nearest to the default first."""

    def __init__(self, tunable: Any) -> None:
        self.tunable = tunable

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tunable, name)

    def configurations(self, request: Any, case: str) -> list[dict[str, int]]:
        default, *rest = map(dict, self.tunable.configurations(request, case))

        def distance(other: dict[str, int]) -> int:
            return sum(other[name] != value for name, value in default.items())

        return [default, *sorted(rest, key=distance)]


def run(job: Job, warm: str = "") -> None:
    """warm: "I/N" only runs every Nth configuration once, so that it is compiled."""
    import torch

    plan = job.plan()
    subjects = list(nearest_first(plan))
    if not subjects:
        name = plan.catalog.props.name
        raise NotRun(f"no kernel that the model gets on {name} has configurations to measure")
    device = plan.catalog.device()
    device.activate()
    if warm:
        at, count = map(int, warm.split("/"))
        with torch.inference_mode():
            _compile(subjects, device, at, count)
        return
    if not job.small:
        _compile_abroad(job)
    with torch.inference_mode():
        for subject in subjects:
            if job.left < 10:
                job.figure(_name(subject), not_run="the time was up")
                continue
            tune(job, subject, device)


def nearest_first(plan: Any) -> Iterator[Any]:
    from dataclasses import replace

    from inferplane.cli.measuring import subjects

    order = ("attention", "attention.input", "sample", "norm.add_rms", "activation.gated")
    found = subjects(plan)
    for subject in sorted(found, key=lambda s: [op != s.candidate.op for op in order]):
        yield replace(subject, tunable=Nearest(subject.tunable))


def tune(job: Job, subject: Any, device: Any) -> None:
    """Measures configurations until all were tried or the time is up, and writes the best."""
    from inferplane.cli.measuring import measure, write

    end = time.monotonic() + min(job.shapes.tune_seconds, job.left - 5)
    known = len(subject.tunable.configurations(subject.request, subject.case))
    result = None
    for result in measure(subject, device):
        if time.monotonic() > end and result.times:
            break
    assert result is not None
    if not result.times:
        job.figure(_name(subject), not_run=f"none of its configurations ran: {result.refused[:1]}")
        return
    from inferplane.plugins.tuning import versions

    path = job.out / "tuned" / subject.tunable.file(subject.request).name
    write([result], path, versions())
    job.figure(
        _name(subject),
        **result.entry(),
        tried=len(result.times),
        refused=len(result.refused),
        known=known,
        file=f"tuned/{path.name}",
    )


def _name(subject: Any) -> str:
    text = f"{subject.candidate.name} {subject.request.describe()} {subject.case}"
    return text.strip()


def _compile(subjects: Sequence[Any], device: Any, at: int, count: int) -> None:
    pairs = [
        (subject, configuration)
        for subject in subjects
        for configuration in subject.tunable.configurations(subject.request, subject.case)
    ]
    for subject, configuration in pairs[at::count]:
        try:
            subject.tunable.call(
                subject.request, subject.case, configuration, device.torch_device
            )()
            device.synchronize()
        except Exception as error:  # measured, it is refused with the same reason
            print(f"# {_name(subject)} {configuration}: {error}", file=sys.stderr)


def _compile_abroad(job: Job) -> None:
    """Other processes compile, and leave what they made on disk; nothing is timed meanwhile."""
    count = processes()
    base = [sys.executable, sys.argv[0], "--part", job.part, "--device", job.device]
    base += ["--out", str(job.out), *(f"--kernel={pin}" for pin in job.kernels)]
    limit = max(10.0, job.left / 3)

    def one(at: int) -> None:
        try:
            subprocess.run([*base, "--warm", f"{at}/{count}"], check=False, timeout=limit)
        except subprocess.TimeoutExpired:
            print(f"# process {at} did not compile all in {limit:.0f} s", file=sys.stderr)

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(one, range(count)))
