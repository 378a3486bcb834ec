"""Asynchronous execution: what nobody waited for is poison, every time."""

from __future__ import annotations

import time

import pytest
import torch
from inferplane_sim.errors import SimKernelError

pytestmark = pytest.mark.ci(platforms=["sim"], suite="plugins", est_seconds=4)


def test_a_result_is_poison_until_something_waits(sim):
    x = torch.ones(4, device="sim") + 1
    assert x.raw.isnan().all()
    torch.sim.synchronize()
    assert x.raw.tolist() == [2.0] * 4


def test_integers_are_poisoned_with_a_pattern_that_is_no_index(sim):
    x = torch.zeros(4, dtype=torch.int32, device="sim")
    assert (x.raw < 0).all()
    assert x.tolist() == [0] * 4


@pytest.mark.parametrize(
    "wait",
    [lambda x: x.cpu(), lambda x: x[0].item(), lambda x: x.tolist(), lambda x: bool(x.any())],
)
def test_reading_on_the_host_waits(sim, wait):
    x = torch.ones(4, device="sim") + 1
    wait(x)
    assert x.raw.tolist() == [2.0] * 4


def test_eager_mode_needs_no_wait(start):
    start(asynchronous=False)
    x = torch.ones(4, device="sim") + 1
    assert x.raw.tolist() == [2.0] * 4


def test_work_of_another_stream_needs_an_event(sim):
    side = torch.sim.Stream()
    x = torch.ones(4, device="sim")
    with torch.sim.stream(side):
        wrong = (x + 1).cpu()
    assert wrong.isnan().all()


def test_an_event_orders_two_streams(sim):
    side = torch.sim.Stream()
    x = torch.ones(4, device="sim")
    event = torch.sim.Event()
    event.record()
    with torch.sim.stream(side):
        event.wait()
        assert (x + 1).cpu().tolist() == [2.0] * 4


def test_an_event_does_not_wait_for_what_came_after_it(sim):
    x = torch.ones(4, device="sim")
    event = torch.sim.Event()
    event.record()
    y = x + 1
    event.synchronize()
    assert x.raw.tolist() == [1.0] * 4
    assert y.raw.isnan().all()


def test_polling_an_event_ends(sim):
    x = torch.ones(4, device="sim")
    for _ in range(500):
        x = x + 1
    event = torch.sim.Event()
    event.record()
    answers = []
    while not (answers and answers[-1]):
        answers.append(event.query())
    assert answers[0] is False
    assert x.raw[0] == 501


def test_waiting_streams_may_be_nested(sim):
    a, b = torch.sim.Stream(), torch.sim.Stream()
    with torch.sim.stream(a):
        x = torch.ones(4, device="sim")
    b.wait_stream(a)
    with torch.sim.stream(b):
        y = x + 1
    a.wait_stream(b)
    with torch.sim.stream(a):
        assert (x + y).cpu().tolist() == [3.0] * 4


def test_a_failure_shows_where_it_is_waited_for_and_the_device_works_on(sim):
    table = torch.ones(3, 2, device="sim")
    rows = table[torch.tensor([9], dtype=torch.int32, device="sim")]
    later = rows + 1
    with pytest.raises(SimKernelError, match="aten::index"):
        later.cpu()
    assert later.raw.isnan().all()
    assert (table + 1).cpu().tolist() == [[2.0, 2.0]] * 3


def test_what_was_queued_behind_a_failure_is_dropped(sim):
    table = torch.ones(3, 2, device="sim")
    table[torch.tensor([9], dtype=torch.int32, device="sim")]
    other = torch.ones(4, device="sim")
    with pytest.raises(SimKernelError):
        torch.sim.synchronize()
    torch.sim.synchronize()
    assert other.raw.isnan().all()


def test_a_long_queue_runs_its_oldest_half(start):
    start(queue_depth=8)
    first = torch.ones(1, device="sim")
    for _ in range(10):
        last = first + 1
    assert first.raw.item() == 1.0
    assert last.raw.isnan()


def test_the_bytes_that_wait_are_bounded(start):
    start()
    stream = torch.sim.current_stream()
    x = torch.ones(1 << 20, device="sim")
    for _ in range(100):
        x = x + 1
    assert stream.held <= 256 << 20
    assert len(stream.waiting) < 65
    torch.sim.synchronize()
    assert stream.held == 0


def test_timed_events_tell_milliseconds(start):
    start(latency_us=20_000)
    begin, end = torch.sim.Event(enable_timing=True), torch.sim.Event(enable_timing=True)
    begin.record()
    torch.sim.synchronize()
    torch.ones(4, device="sim")
    torch.sim.synchronize()
    end.record()
    end.synchronize()
    assert 15 < begin.elapsed_time(end) < 500


def test_latency_is_a_sleep_a_launch(start):
    start(latency_us=10_000)
    x = torch.ones(4, device="sim")
    for _ in range(4):
        x += 1
    begin = time.perf_counter()
    torch.sim.synchronize()
    assert time.perf_counter() - begin >= 0.05


def test_bandwidth_is_a_sleep_a_byte(start):
    start(bandwidth_gb_s=0.1)
    x = torch.empty(1 << 20, dtype=torch.uint8, device="sim")
    begin = time.perf_counter()
    x.fill_(1)
    torch.sim.synchronize()
    assert time.perf_counter() - begin >= 0.01


def test_without_a_model_nothing_sleeps(sim):
    torch.ones(4, device="sim").cpu()
    assert sim.boards[0].clock.owed_s == 0.0
