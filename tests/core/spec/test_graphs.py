"""`TorchGraphs` over a torch device module that is emulated."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from inferplane.spec import DeviceProps, GraphRequest, TorchGraphs

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)

PROPS = DeviceProps(name="a", profile="a", memory_bytes=1, dtypes=frozenset({"fp32"}))


class Graph:
    """As torch's: what ran while it was captured runs again."""

    def __init__(self) -> None:
        self.work = []

    def replay(self) -> None:
        for call in self.work:
            call()


class Module:
    AnyGraph = Graph

    def __init__(self) -> None:
        self.pools, self.broken, self.now = [], False, None

    def graph_pool_handle(self):
        return (0, 7)

    @contextmanager
    def graph(self, graph, pool=None):
        self.pools.append(pool)
        self.now = graph
        try:
            yield
        finally:
            self.now = None
            if self.broken:  # as the end of a capture that an illegal call has spoilt
                raise RuntimeError("operation failed due to a previous error during capture")


class Graphs(TorchGraphs):
    torch_type, graph_class = "any", "AnyGraph"


@pytest.fixture
def module(monkeypatch):
    made = Module()
    monkeypatch.setattr(torch, "get_device_module", lambda kind: {"any": made}[kind])
    return made


def test_a_replay_runs_what_was_captured(module):
    seen = []
    graph = Graphs(GraphRequest(device=PROPS)).capture(
        lambda: module.now.work.append(lambda: seen.append(1))
    )
    graph.replay(), graph.replay()
    assert seen == [1, 1]


def test_all_graphs_of_one_back_end_share_memory(module):
    made = Graphs(GraphRequest(device=PROPS))
    made.capture(SimpleNamespace), made.capture(SimpleNamespace)
    assert module.pools == [(0, 7), (0, 7)]


def test_the_first_reason_is_told_and_not_that_of_the_end(module):
    module.broken = True

    def synchronizes():
        raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match=r"AnyGraph cannot capture.*not permitted when stream"):
        Graphs(GraphRequest(device=PROPS)).capture(synchronizes)


def test_an_end_that_fails_alone_is_told(module):
    module.broken = True
    with pytest.raises(RuntimeError, match="previous error during capture"):
        Graphs(GraphRequest(device=PROPS)).capture(lambda: None)
