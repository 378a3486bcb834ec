"""What the device can do at best: bytes a second of a large copy, operations a second of a large
product in bf16. Every other figure is a share of these."""

from __future__ import annotations

from typing import Any

from .clock import Call, Clock, random_of
from .job import Job, read, spread


def run(job: Job) -> None:
    import torch

    device = job.plan().catalog.device()
    device.activate()
    clock = Clock(device)
    with torch.inference_mode():
        _copy(job, clock)
        _matmul(job, clock)


def _copy(job: Job, clock: Clock) -> None:
    import torch

    count = job.shapes.copy_bytes // 2
    source = random_of((count,), torch.bfloat16, clock.device, 1)
    target = torch.empty_like(source)
    moved = 2 * source.nbytes
    _rate(job, clock, "copy", "bytes_per_s", moved, lambda: target.copy_(source), bytes_moved=moved)


def _matmul(job: Job, clock: Clock) -> None:
    import torch

    size = job.shapes.matmul
    a, b = (random_of((size, size), torch.bfloat16, clock.device, seed) for seed in (1, 2))
    out = torch.empty_like(a)
    _rate(job, clock, "matmul", "flops", 2 * size**3, lambda: torch.mm(a, b, out=out), size=size)


def _rate(
    job: Job, clock: Clock, name: str, unit: str, work: int, call: Call, **sizes: int
) -> None:
    """work: what a call does, in units that are counted a second."""
    found = spread(clock.times([call], job.shapes.seconds))
    rates = {unit: work / found["median"], f"best_{unit}": work / found["least"]}
    job.figure(name, **rates, **sizes, timed_by=clock.source, seconds=found)


def ceilings(job: Job) -> dict[str, Any]:
    """copy: bytes a second; matmul: operations a second. Measured now where they were not yet."""
    path = job.out / "ceilings.json"
    found = read(path)
    if not found or not {"copy", "matmul"} <= found["figures"].keys():
        other = Job("ceilings", job.device, job.out, job.small, seconds=job.left)
        run(other)
        other.write("done")
        found = read(path)
        assert found is not None
    figures = found["figures"]
    return {"copy": figures["copy"]["bytes_per_s"], "matmul": figures["matmul"]["flops"]}
