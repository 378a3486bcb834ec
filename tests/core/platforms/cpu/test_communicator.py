"""Collectives over gloo, in two processes. Each runs this file as a program."""

import subprocess
import sys

import pytest
import torch
import torch.distributed as dist

from inferplane.platforms.cpu.communicator import GlooCommunicator
from inferplane.spec import CollectiveRequest, DeviceProps, Group

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=9)

PROPS = DeviceProps(name="a", profile="a", memory_bytes=1, dtypes=frozenset({"fp32"}))
RANKS = 2


def collectives(rank: int) -> dict[str, torch.Tensor]:
    comm = GlooCommunicator(CollectiveRequest(device=PROPS, ranks=RANKS, dtype="fp32"))
    group = Group("tp", (0, 1), rank)
    base = torch.arange(4.0).view(2, 2) + 10 * rank
    source = base.clone()
    comm.broadcast(source, 1, group)
    reduced = base.clone()
    returned = comm.all_reduce(reduced, group)
    rows = torch.arange(3.0)[:, None] + 10 * rank
    found = {
        "all_reduce": reduced,
        "all_reduce returned": returned,
        "all_gather 0": comm.all_gather(base, group),
        "all_gather 1": comm.all_gather(base, group, axis=1),
        "all_gather of a view": comm.all_gather(base.T, group),
        "reduce_scatter 0": comm.reduce_scatter(base, group),
        "reduce_scatter 1": comm.reduce_scatter(base, group, axis=1),
        "input of reduce_scatter": base,
        "all_to_all": comm.all_to_all(rows, [1, 2], [1, 1] if rank == 0 else [2, 2], group),
        "broadcast": source,
    }
    comm.barrier(group)
    return found


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS
    )
    torch.save(collectives(rank), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What each rank found."""
    folder = tmp_path_factory.mktemp("ranks")
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(folder)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(RANKS)
    ]
    try:
        for process in ranks:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
    finally:
        for process in ranks:
            process.kill()
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


FIRST, SECOND = torch.tensor([[0.0, 1.0], [2.0, 3.0]]), torch.tensor([[10.0, 11.0], [12.0, 13.0]])
SUM = FIRST + SECOND
EXPECTED = {
    "all_reduce": [SUM, SUM],
    "all_reduce returned": [SUM, SUM],
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
}


@pytest.mark.parametrize("rank", range(RANKS))
@pytest.mark.parametrize("name", EXPECTED)
def test_collective(name, rank, results):
    assert torch.equal(results[rank][name], EXPECTED[name][rank])


if __name__ == "__main__":
    work(int(sys.argv[1]), sys.argv[2])
