"""A collective that hangs on two simulated devices is ended, with what each rank was doing.

Each rank runs this file as a program. Calls only queue work here: the ranks hang where they wait.
"""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

pytestmark = pytest.mark.ci(platforms=["sim"], suite="plugins", est_seconds=12)

RANKS, ENDED = 2, 75


def work(rank: int, folder: Path) -> None:
    import torch
    import torch.distributed as dist
    from inferplane_sim.backend import install
    from inferplane_sim.communicator import SimCommunicator
    from inferplane_sim.driver import driver

    from inferplane.activity import Activity, Board, board_file
    from inferplane.engine.watchdog import Hang, Watchdog
    from inferplane.executor.communicator import WatchedCommunicator
    from inferplane.spec import CollectiveRequest, Group

    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group(
        "gloo", init_method=store, rank=rank, world_size=RANKS, timeout=timedelta(seconds=60)
    )
    install()
    props = driver().boards[0].props
    inner = SimCommunicator(CollectiveRequest(device=props, ranks=RANKS, dtype="fp32"))
    activity = Activity(Board(RANKS, board_file(folder)), rank)
    comm, group = WatchedCommunicator(inner, activity), Group("tp", (0, 1), rank)

    def end(hang: Hang) -> None:
        (folder / f"report-{rank}.txt").write_text(f"{hang.short}\n{hang.report}")
        os._exit(ENDED)

    x = torch.ones(2, device="sim")
    comm.all_reduce(x, group)
    torch.sim.synchronize()
    Watchdog(activity, 1.5 if rank == 0 else 60.0, end, folder).start()
    activity.begin(5)
    activity.enter("forward")
    comm.all_reduce(x, group)  # the second collective: hangs on rank 1
    activity.enter("wait for the device")
    torch.sim.synchronize()
    activity.end()


def test_the_report_names_every_rank_and_its_last_collective(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SIM_FAULTS": "hang@2:r1"}
    ranks = [
        subprocess.Popen([sys.executable, __file__, str(rank), str(tmp_path)], env=environment)
        for rank in range(RANKS)
    ]
    try:
        assert ranks[0].wait(timeout=120) == ENDED
    finally:
        for process in ranks:
            process.kill()
            process.wait()
    short, _, report = (tmp_path / "report-0.txt").read_text().partition("\n")
    for rank, process in enumerate(ranks):
        assert f"rank {rank} (pid {process.pid}): step 5" in short
    assert short.count("(collective 2, all_reduce group tp, was its last)") == RANKS
    assert "test_hang.py" in report


if __name__ == "__main__":
    work(int(sys.argv[1]), Path(sys.argv[2]))
