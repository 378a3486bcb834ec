"""What hangs is found, with what each rank was doing. Two ranks run this file as a program."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from inferplane.activity import Activity, Board, board_file
from inferplane.engine.watchdog import Hang, Watchdog

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=12)

RANKS = 2


@pytest.fixture
def watched():
    """(activity, hangs): with a watchdog of 0.2 s."""
    activity, hangs = Activity(Board(1)), list[Hang]()
    watchdog = Watchdog(activity, 0.2, hangs.append).start()
    yield activity, hangs
    watchdog.stop()


def wait_for(found: list[Hang], seconds: float = 10.0) -> Hang:
    end = time.monotonic() + seconds
    while not found and time.monotonic() < end:
        time.sleep(0.02)
    assert found, "the hang was not seen"
    return found[0]


def test_a_step_without_progress_is_reported_once(watched):
    activity, hangs = watched
    activity.begin(5)
    activity.enter("forward")
    hang = wait_for(hangs)
    time.sleep(0.5)
    assert len(hangs) == 1
    assert "no progress for" in hang.short and "step 5, forward" in hang.short


def test_the_report_has_the_stack_of_the_thread_that_steps(watched):
    activity, hangs = watched
    ended = threading.Event()

    def a_kernel_that_hangs() -> None:
        activity.begin(1)
        ended.wait()

    thread = threading.Thread(target=a_kernel_that_hangs)
    thread.start()
    hang = wait_for(hangs)
    ended.set()
    thread.join()
    assert "in a_kernel_that_hangs" in hang.report
    assert "a_kernel_that_hangs" not in hang.short


def test_a_long_step_that_gets_on_is_left_alone(watched):
    activity, hangs = watched
    activity.begin(1)
    for at in range(12):
        activity.enter(f"part {at}")
        time.sleep(0.05)
    activity.end()
    assert hangs == []


@pytest.mark.parametrize("what", ["idle", "loading"])
def test_time_outside_of_steps_does_not_count(watched, what):
    activity, hangs = watched
    activity.enter(what)
    time.sleep(0.6)
    assert hangs == []


def test_no_timeout_is_no_thread():
    before = threading.active_count()
    Watchdog(Activity(Board(1)), 0, lambda hang: None).start()
    assert threading.active_count() == before


# Two ranks over gloo: rank 1 never calls the collective that rank 0 waits in.


def forget_to_reduce() -> None:
    while True:
        time.sleep(0.05)


def work(rank: int, folder: Path) -> None:
    import os
    from types import SimpleNamespace

    import torch
    import torch.distributed as dist

    from inferplane.executor.communicator import WatchedCommunicator
    from inferplane.platforms.cpu.communicator import GlooCommunicator
    from inferplane.spec import CollectiveRequest, DeviceProps, Group

    store = f"file://{folder}/store"
    dist.init_process_group(
        "gloo", init_method=store, rank=rank, world_size=RANKS, timeout=timedelta(seconds=60)
    )
    props = DeviceProps(name="a", profile="a", memory_bytes=1, dtypes=frozenset({"fp32"}))
    inner = GlooCommunicator(CollectiveRequest(device=props, ranks=RANKS, dtype="fp32"))
    activity = Activity(Board(RANKS, board_file(folder)), rank)
    group, comm = Group("tp", (0, 1), rank), WatchedCommunicator(inner, activity)
    comm.all_reduce(torch.ones(2), group)

    def end(hang: Hang) -> None:
        (folder / f"report-{rank}.txt").write_text(f"{hang.short}\n{hang.report}")
        os._exit(75)

    comm.barrier(group)
    Watchdog(activity, 1.0 if rank == 0 else 60.0, end, folder).start()
    activity.begin(17)
    activity.current = SimpleNamespace(layer=3)
    activity.enter("forward")
    if rank == 1:
        forget_to_reduce()
    comm.all_reduce(torch.ones(2), group)


def test_a_hung_collective_is_reported_with_what_each_rank_was_doing(tmp_path):
    ranks = [
        subprocess.Popen([sys.executable, __file__, str(rank), str(tmp_path)])
        for rank in range(RANKS)
    ]
    try:
        assert ranks[0].wait(timeout=120) == 75
    finally:
        for process in ranks:
            process.kill()
            process.wait()
    short, _, report = (tmp_path / "report-0.txt").read_text().partition("\n")
    assert f"rank 0 (pid {ranks[0].pid}): step 17, forward layer 3 / all_reduce group tp" in short
    assert f"rank 1 (pid {ranks[1].pid}): step 17, forward layer 3, for" in short
    assert "(collective 3, all_reduce group tp, was its last)" in short
    assert "(collective 2, barrier group tp, was its last)" in short
    assert "in all_reduce" in report
    assert "in forget_to_reduce" in report


if __name__ == "__main__":
    work(int(sys.argv[1]), Path(sys.argv[2]))
