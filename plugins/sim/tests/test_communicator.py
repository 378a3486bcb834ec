"""Collectives in two processes. Each runs this file as a program."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

pytestmark = pytest.mark.ci(platforms=["sim"], suite="plugins", est_seconds=25)

RANKS = 2


def collectives(rank: int, folder: str) -> dict[str, torch.Tensor]:
    from inferplane_sim.backend import install
    from inferplane_sim.communicator import SimCommunicator
    from inferplane_sim.driver import driver

    from inferplane.spec import CollectiveRequest, Group

    install()
    props = driver().boards[0].props
    comm = SimCommunicator(CollectiveRequest(device=props, ranks=RANKS, dtype="fp32"))
    group = Group("tp", (0, 1), rank)
    base = torch.arange(4.0, device="sim").view(2, 2) + 10 * rank
    source, reduced = base.clone(), base.clone()
    comm.broadcast(source, 1, group)
    returned = comm.all_reduce(reduced, group)
    poisoned = reduced.raw.isnan().all()
    Path(f"{folder}/{rank}.began").touch()
    begin = time.perf_counter()
    torch.sim.synchronize()
    seconds = torch.tensor(time.perf_counter() - begin)
    rows = torch.arange(3.0, device="sim")[:, None] + 10 * rank
    found = {
        "all_reduce": reduced,
        "all_reduce returned": returned,
        "all_reduce of its result": comm.all_reduce(reduced * 2, group),
        "all_gather 0": comm.all_gather(base, group),
        "all_gather 1": comm.all_gather(base, group, axis=1),
        "all_gather of a view": comm.all_gather(base.T, group),
        "reduce_scatter 0": comm.reduce_scatter(base, group),
        "reduce_scatter 1": comm.reduce_scatter(base, group, axis=1),
        "input of reduce_scatter": base,
        "all_to_all": comm.all_to_all(rows, [1, 2], [1, 1] if rank == 0 else [2, 2], group),
        "broadcast": source,
    }
    values = {name: tensor.cpu() for name, tensor in found.items()}
    comm.barrier(group)
    return {**values, "poisoned before a wait": poisoned, "seconds": seconds}


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS
    )
    torch.save(collectives(rank, folder), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def launch(folder: Path, **environment: str) -> list[subprocess.Popen[str]]:
    return [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(folder)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )
        for rank in range(RANKS)
    ]


def finish(ranks: list[subprocess.Popen[str]], folder: Path) -> list[dict[str, torch.Tensor]]:
    try:
        for process in ranks:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
    finally:
        for process in ranks:
            process.kill()
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What each rank found."""
    folder = tmp_path_factory.mktemp("ranks")
    return finish(launch(folder), folder)


FIRST, SECOND = torch.tensor([[0.0, 1.0], [2.0, 3.0]]), torch.tensor([[10.0, 11.0], [12.0, 13.0]])
SUM = FIRST + SECOND
EXPECTED = {
    "all_reduce": [SUM, SUM],
    "all_reduce returned": [SUM, SUM],
    "all_reduce of its result": [4 * SUM, 4 * SUM],
    "all_gather 0": [torch.cat([FIRST, SECOND])] * 2,
    "all_gather 1": [torch.cat([FIRST, SECOND], 1)] * 2,
    "all_gather of a view": [torch.cat([FIRST.T, SECOND.T])] * 2,
    "reduce_scatter 0": [SUM[:1], SUM[1:]],
    "reduce_scatter 1": [SUM[:, :1], SUM[:, 1:]],
    "input of reduce_scatter": [FIRST, SECOND],
    "all_to_all": [
        torch.tensor([[0.0], [10.0]]),
        torch.tensor([[1.0], [2.0], [11.0], [12.0]]),
    ],
    "broadcast": [SECOND, SECOND],
    "poisoned before a wait": [torch.tensor(True)] * 2,
}


@pytest.mark.parametrize("rank", range(RANKS))
@pytest.mark.parametrize("name", EXPECTED)
def test_collective(name, rank, results):
    assert torch.equal(results[rank][name], EXPECTED[name][rank])


def test_a_slow_collective_is_late_and_right(tmp_path):
    found = finish(launch(tmp_path, SIM_FAULTS="slow@2:2s:r1"), tmp_path)
    assert found[0]["seconds"] < 1.5 < 2 <= found[1]["seconds"]
    assert torch.equal(found[1]["all_reduce"], SUM)


def test_a_hung_collective_holds_every_rank_until_it_is_ended(tmp_path):
    ranks = launch(tmp_path, SIM_FAULTS="hang@2:r1")
    try:
        begun = [tmp_path / f"{rank}.began" for rank in range(RANKS)]
        while not all(path.exists() for path in begun):
            assert [process.poll() for process in ranks] == [None] * RANKS
            time.sleep(0.05)
        time.sleep(1.5)
        assert [process.poll() for process in ranks] == [None] * RANKS
    finally:
        for process in ranks:
            process.kill()
            process.communicate()


if __name__ == "__main__":
    work(int(sys.argv[1]), sys.argv[2])
