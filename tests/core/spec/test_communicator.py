"""`TorchCommunicator` over gloo, in two processes. Each runs this file as a program."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.distributed as dist

from inferplane.spec import CollectiveRequest, DeviceProps, Group, TorchCommunicator

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=9)

PROPS = DeviceProps(name="a", profile="a", memory_bytes=1, dtypes=frozenset({"fp32"}))
RANKS = 2


class Gloo(TorchCommunicator):
    backend = "gloo"


def collectives(rank: int) -> dict[str, torch.Tensor]:
    made = Gloo(CollectiveRequest(device=PROPS, ranks=RANKS, dtype="fp32"))
    group = Group("tp", (0, 1), rank)
    x = torch.arange(8.0).view(2, 4) + 10 * rank
    sent = x.clone()
    made.broadcast(sent, 1, group)
    rows = torch.arange(3.0)[:, None] + 10 * rank
    return {
        "all_reduce": made.all_reduce(x.clone(), group),
        "all_gather 0": made.all_gather(x, group),
        "all_gather 1": made.all_gather(x, group, axis=1),
        "all_gather of a view": made.all_gather(x.T, group),
        "reduce_scatter 0": made.reduce_scatter(x, group),
        "reduce_scatter 1": made.reduce_scatter(x, group, axis=1),
        "all_to_all": made.all_to_all(rows, [1, 2], [1, 1] if rank == 0 else [2, 2], group),
        "broadcast": sent,
    }


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS
    )
    torch.save(collectives(rank), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each rank found."""
    folder = tmp_path_factory.mktemp("ranks")
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), str(folder)], stderr=subprocess.PIPE, text=True
        )
        for rank in range(RANKS)
    ]
    for rank in ranks:
        errors = rank.communicate(timeout=120)[1]
        assert rank.returncode == 0, errors
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


A = torch.arange(8.0).view(2, 4)
B = A + 10
SUM = A + B
EXPECTED = {
    "all_reduce": (SUM, SUM),
    "all_gather 0": (torch.cat([A, B]),) * 2,
    "all_gather 1": (torch.cat([A, B], 1),) * 2,
    "all_gather of a view": (torch.cat([A.T, B.T]),) * 2,
    "reduce_scatter 0": (SUM[:1], SUM[1:]),
    "reduce_scatter 1": (SUM[:, :2], SUM[:, 2:]),
    "all_to_all": (torch.tensor([[0.0], [10.0]]), torch.tensor([[1.0], [2.0], [11.0], [12.0]])),
    "broadcast": (B, B),
}


@pytest.mark.parametrize("rank", range(RANKS))
@pytest.mark.parametrize("name", EXPECTED)
def test_collective(name, rank, found):
    assert torch.equal(found[rank][name], EXPECTED[name][rank])


def test_an_axis_that_cannot_be_cut_is_refused():
    made = Gloo(CollectiveRequest(device=PROPS, ranks=RANKS, dtype="fp32"))
    with pytest.raises(ValueError, match="3 cannot be cut by 2"):
        made.reduce_scatter(torch.ones(3), Group("tp", (0, 1), 0))


if __name__ == "__main__":
    work(int(sys.argv[1]), sys.argv[2])
