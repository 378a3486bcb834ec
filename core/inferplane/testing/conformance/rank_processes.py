"""Processes that call collectives. Run as a program: the job's file, the rank, the folder."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .case import Case
from .collectives import RANKS, payload
from .processes import describe, environment, importable, load, reopen, save
from .target import Target

_LIMIT_S = 120


def run(target: Target, cases: list[Case]) -> dict[str, Any]:
    """Case id -> every rank's report, or the text of what went wrong with the processes."""
    why_not = importable(target.plugins)
    if why_not:
        return {case.id: why_not for case in cases}
    found = target.selection.plugin.platform.probe() if target.selection.plugin.platform else None
    devices = found.devices if found and found.devices else target.selection.devices
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder, "job")
        plain = [_plain(case) for case in cases]
        save(job, (describe(target.plugins), target.name, devices, plain))
        error = _spawn(str(job), folder)
        if error:
            return {case.id: error for case in cases}
        import torch

        reports = [torch.load(Path(folder, f"{rank}.pt")) for rank in range(RANKS)]
    return {case.id: [report[case.id] for report in reports] for case in cases}


def _plain(case: Case) -> Case:
    """Without what cannot be sent."""
    return Case(case.area, case.op, case.candidate, case.name, case.request, case.shape)


def _spawn(job: str, folder: str) -> str:
    command = [sys.executable, "-m", __name__, job]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), folder], stderr=subprocess.PIPE, text=True, env=environment()
        )
        for rank in range(RANKS)
    ]
    errors = []
    try:
        for rank, process in enumerate(ranks):
            _, text = process.communicate(timeout=_LIMIT_S)
            if process.returncode:
                errors.append(f"rank {rank} ended with {process.returncode}: {text[-600:].strip()}")
    except subprocess.TimeoutExpired:
        errors.append(f"the ranks were not done after {_LIMIT_S} s")
    finally:
        for process in ranks:
            process.kill()
            process.wait()
    return "; ".join(errors)


def main(job: str, rank: int, folder: str) -> None:
    import torch
    import torch.distributed as dist

    described, platform, devices, cases = load(job)
    catalog = reopen(described, platform, devices)
    catalog.props = devices[rank % len(devices)]
    device = catalog.device()
    device.activate()
    backend = catalog.selection.platform.process_group or "gloo"
    store = f"file://{folder}/store"
    dist.init_process_group(backend, init_method=store, rank=rank, world_size=RANKS)
    offers = {(c.op, c.name): c for c in catalog.candidates}
    found = {}
    for case in cases:
        try:
            found[case.id] = _call(offers[case.op, case.candidate], case, rank, device)
        except Exception as error:
            found[case.id] = {"error": f"{type(error).__name__}: {error}"}
    torch.save(found, Path(folder, f"{rank}.pt"))
    dist.destroy_process_group()


def _call(candidate: Any, case: Case, rank: int, device: Any) -> dict[str, Any]:
    from inferplane.plugins.binding import make
    from inferplane.spec import Group

    assert case.request is not None
    communicator = make(candidate, case.request)
    group, shape = Group("tp", tuple(range(RANKS)), rank), case.shape
    x = payload(case, rank).to(device.torch_device)
    if case.op == "all_reduce":
        result = communicator.all_reduce(x, group)
    elif case.op == "broadcast":
        communicator.broadcast(x, shape.source, group)
        result = x
    elif case.op == "all_to_all":
        received = [shape.splits[r][rank] for r in range(RANKS)]
        result = communicator.all_to_all(x, list(shape.splits[rank]), received, group)
    else:
        result = getattr(communicator, case.op)(x, group, shape.axis)
    communicator.barrier(group)
    device.synchronize()
    return {"result": result.cpu(), "after": x.cpu(), "is_input": result is x}


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
