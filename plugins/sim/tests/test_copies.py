"""Copies, and what goes wrong when nobody waits for them."""

from __future__ import annotations

import pytest
import torch
from inferplane_sim.pinned import is_pinned, pin

pytestmark = pytest.mark.ci(platforms=["sim"], suite="plugins", est_seconds=3)


def test_a_round_trip_changes_nothing(sim, values):
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        x = values(3, 5, dtype=dtype)
        assert torch.equal(x.to("sim").cpu(), x)


def test_a_non_blocking_copy_to_the_host_is_poison_until_waited_for(sim):
    x = torch.ones(4, device="sim")
    host = x.to("cpu", non_blocking=True)
    assert host.isnan().all()
    torch.sim.synchronize()
    assert host.tolist() == [1.0] * 4


def test_an_event_after_the_copy_is_enough(sim):
    x = torch.ones(4, device="sim")
    host = torch.zeros(4)
    host.copy_(x, non_blocking=True)
    event = torch.sim.Event()
    event.record()
    assert host.isnan().all()
    event.synchronize()
    assert host.tolist() == [1.0] * 4


def test_pinned_memory_is_read_when_the_copy_runs(sim):
    host = pin(torch.ones(4))
    x = host.to("sim", non_blocking=True)
    host.fill_(7.0)  # too early: the copy has not run
    assert x.tolist() == [7.0] * 4


def test_other_memory_is_staged_at_once(sim):
    host = torch.ones(4)
    x = host.to("sim", non_blocking=True)
    host.fill_(7.0)
    assert x.tolist() == [1.0] * 4


def test_pinned_memory_is_forgotten_with_its_tensor(sim):
    host = pin(torch.ones(4))
    assert is_pinned(host)
    assert is_pinned(host[1:])
    assert not is_pinned(torch.ones(4))


def test_a_blocking_copy_waits_for_its_stream(sim):
    x = torch.ones(4, device="sim")
    torch.zeros(4).to("sim")
    assert x.raw.tolist() == [1.0] * 4


def test_a_copy_converts(sim):
    x = torch.tensor([1.5, 2.5]).to("sim", torch.bfloat16)
    assert x.dtype == torch.bfloat16
    assert x.to(torch.int32).tolist() == [1, 2]


def test_a_copy_into_a_view_writes_its_base(sim):
    x = torch.zeros(4, device="sim")
    x[1:3].copy_(torch.ones(2))
    assert x.tolist() == [0.0, 1.0, 1.0, 0.0]


def test_strides_of_a_transposed_source_are_kept(sim):
    assert torch.ones(2, 3).T.to("sim").stride() == (1, 3)


def test_devices_do_not_mix_but_copy(start):
    start(devices=2)
    a, b = torch.ones(3, device="sim:0"), torch.ones(3, device="sim:1")
    with pytest.raises(RuntimeError, match=r"sim:0 and sim:1"):
        a + b
    assert (a.to("sim:1") + b).tolist() == [2.0] * 3


def test_a_copy_between_devices_waits_for_its_source(start):
    start(devices=2)
    a = torch.ones(3, device="sim:0") + 1
    b = a.to("sim:1")
    a += 5  # later work of the source must not be seen
    torch.sim.synchronize("sim:1")
    assert b.raw.tolist() == [2.0] * 3


def test_later_work_of_the_source_waits_for_a_copy_to_another_device(start):
    start(devices=2)
    a = torch.ones(3, device="sim:0")
    b = a.to("sim:1")
    a += 5
    torch.sim.synchronize("sim:0")
    torch.sim.synchronize("sim:1")
    assert b.raw.tolist() == [1.0] * 3


def test_memory_of_devices_is_apart(start):
    driver = start(devices=2)
    x = torch.ones(256, device="sim:1")
    assert [board.memory.used for board in driver.boards] == [0, 1024]
    del x


def test_a_device_that_is_not_there_says_how_many_there_are(sim):
    with pytest.raises(RuntimeError, match="no device sim:3; there are 1"):
        torch.ones(3, device="sim:3")
