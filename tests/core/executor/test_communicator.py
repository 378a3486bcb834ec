"""Collectives that show on the rank's record."""

import pytest
import torch

from inferplane.activity import Activity, Board
from inferplane.executor.communicator import WatchedCommunicator
from inferplane.spec import Group

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=1)

X, GROUP = torch.ones(2), Group("tp", (0, 1), 0)
CALLS = {
    "all_reduce": (X, GROUP),
    "all_gather": (X, GROUP, 1),
    "reduce_scatter": (X, GROUP, 1),
    "all_to_all": (X, [1, 1], [1, 1], GROUP),
    "broadcast": (X, 1, GROUP),
    "barrier": (GROUP,),
}


class Inner:
    """Notes what it is called with, and what the record says meanwhile."""

    def __init__(self, activity: Activity) -> None:
        self.activity, self.calls = activity, []

    def __getattr__(self, op):
        def call(*arguments):
            self.calls.append((op, arguments, self.activity.board.record(0).what))
            return f"result of {op}"

        return call


@pytest.fixture
def activity():
    activity = Activity(Board(1))
    activity.begin(1)
    activity.enter("forward")
    return activity


@pytest.mark.parametrize("op", CALLS)
def test_a_collective_is_named_while_it_runs(activity, op):
    inner = Inner(activity)
    getattr(WatchedCommunicator(inner, activity), op)(*CALLS[op])
    assert inner.calls == [(op, CALLS[op], f"forward / {op} group tp")]
    assert activity.what == "forward"


@pytest.mark.parametrize("op", ["all_reduce", "all_gather", "reduce_scatter", "all_to_all"])
def test_the_result_is_handed_on(activity, op):
    found = getattr(WatchedCommunicator(Inner(activity), activity), op)(*CALLS[op])
    assert found == f"result of {op}"
