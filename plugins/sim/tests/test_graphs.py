"""Capture rules, and replay."""

from __future__ import annotations

import pytest
import torch
from inferplane_sim.errors import SimCaptureError, SimKernelError, SimOutOfMemory
from inferplane_sim.faults import inject
from inferplane_sim.graphs import Graphs
from inferplane_sim.pinned import pin

from inferplane.spec import GraphRequest, MiB

pytestmark = pytest.mark.ci(platforms=["sim"], suite="plugins", est_seconds=3)


@pytest.fixture
def graphs(start) -> Graphs:
    driver = start(memory_mb=64, graph_pool_mb=1)
    return Graphs(GraphRequest(device=driver.boards[0].props))


def test_replay_reads_new_inputs_at_the_same_addresses(graphs):
    x, y = torch.ones(4, device="sim"), torch.zeros(4, device="sim")
    graph = graphs.capture(lambda: y.copy_((x + 1) * 2))
    assert y.tolist() == [0.0] * 4, "capture must not run the work"
    graph.replay()
    assert y.tolist() == [4.0] * 4
    x.fill_(2.0)
    graph.replay()
    assert y.tolist() == [6.0] * 4


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("synchronize", lambda x: torch.sim.synchronize()),
        ("stream.synchronize", lambda x: torch.sim.current_stream().synchronize()),
        ("copy to the host", lambda x: x.cpu()),
        ("aten::_local_scalar_dense", lambda x: x.sum().item()),
        ("aten::nonzero", lambda x: x.nonzero()),
        ("aten::index", lambda x: x[x > 0]),
        ("copy from the host", lambda x: torch.zeros(4).to("sim")),
        ("copy from the host", lambda x: torch.zeros(4).to("sim", non_blocking=True)),
        ("graph.capture", lambda x: Graphs(_request()).capture(lambda: None)),
    ],
)
def test_waiting_in_a_capture_is_an_error_that_names_the_op(graphs, name, call):
    x = torch.ones(4, device="sim")
    with pytest.raises(SimCaptureError, match=name):
        graphs.capture(lambda: call(x))
    assert x.tolist() == [1.0] * 4, "the device works on"


def _request() -> GraphRequest:
    from inferplane_sim.driver import driver

    return GraphRequest(device=driver().boards[0].props)


def test_an_event_that_is_waited_for_in_a_capture_is_refused(graphs):
    x = torch.ones(4, device="sim")
    event = torch.sim.Event()
    event.record()
    with pytest.raises(SimCaptureError, match=r"event\.synchronize"):
        graphs.capture(event.synchronize)
    del x


def test_an_allocation_outside_the_pool_names_the_op(graphs):
    x = torch.ones(MiB // 4 - 8, device="sim")  # one result fits, two do not
    with pytest.raises(SimCaptureError, match=r"aten::mul allocates .* outside the pool"):
        graphs.capture(lambda: (x + 1).mul(2))


def test_memory_that_a_capture_lets_go_is_used_again(graphs):
    x, y = torch.ones(MiB // 4, device="sim"), torch.zeros(MiB // 4, device="sim")

    def run() -> None:
        for _ in range(3):
            z = x + 1
            y.copy_(z)
            del z

    graphs.capture(run).replay()
    assert y[0].item() == 2.0


def test_the_pool_grows_to_what_lives_at_once_and_is_given_back(graphs):
    book = graphs.board.memory
    x, y = torch.ones(1000, device="sim"), torch.zeros(1000, device="sim")
    before = book.used

    def run() -> None:
        y.copy_((x + 1) + (x + 2))  # two sums and their sum are live at once

    graph = graphs.capture(run)
    assert book.used - before == 3 * 4000
    second = graphs.capture(run)
    assert book.used - before == 3 * 4000, "graphs share the pool"
    graphs.pool = None
    del graph, second
    assert book.used == before


def test_a_full_device_is_out_of_memory_in_a_capture_too(graphs):
    x = torch.ones(4, device="sim")
    with inject("oom"), pytest.raises(SimOutOfMemory):
        graphs.capture(lambda: x + 1)
    assert (x + 1).tolist() == [2.0] * 4


def test_pinned_memory_may_be_copied_in_a_capture(graphs):
    host, x = pin(torch.ones(4)), torch.zeros(4, device="sim")
    graph = graphs.capture(lambda: x.copy_(host, non_blocking=True))
    host.fill_(5.0)
    graph.replay()
    assert x.tolist() == [5.0] * 4


def test_work_before_a_replay_is_done_first(graphs):
    x, y = torch.ones(4, device="sim"), torch.zeros(4, device="sim")
    graph = graphs.capture(lambda: y.copy_(x))
    x += 1
    graph.replay()
    y += 1
    assert y.tolist() == [3.0] * 4


def test_a_replayed_kernel_can_fail(graphs):
    x = torch.ones(4, device="sim")
    graph = graphs.capture(lambda: x.add_(1))
    with inject("kernel"):
        graph.replay()
        with pytest.raises(SimKernelError):
            torch.sim.synchronize()
    graph.replay()
    assert x.tolist() == [2.0] * 4


def test_a_replay_is_one_launch_for_the_latency_model(start):
    driver = start(latency_us=50, graph_pool_mb=1)
    x = torch.ones(4, device="sim")
    torch.sim.synchronize()

    def run() -> None:
        for _ in range(100):
            x.add_(1)

    graph = Graphs(GraphRequest(device=driver.boards[0].props)).capture(run)
    clock = driver.boards[0].clock
    clock.settle = lambda: None
    clock.owed_s = 0.0
    graph.replay()
    torch.sim.synchronize()
    assert clock.owed_s == pytest.approx(50e-6)
