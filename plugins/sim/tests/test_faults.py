"""Injected faults."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from inferplane_sim import faults
from inferplane_sim.device import SimDevice
from inferplane_sim.errors import SimDeviceLost, SimKernelError, SimOutOfMemory
from inferplane_sim.faultplan import FaultPlan
from inferplane_sim.faults import Injector
from inferplane_sim.memory import memory_info

from inferplane.spec import Device, Fault

pytestmark = pytest.mark.ci(platforms=["sim"], suite="plugins", est_seconds=3)


def device(sim) -> Device:
    return SimDevice("sim", sim.boards[0].props)


def test_the_nth_kernel_fails_where_it_is_waited_for(start):
    sim = start(faults="kernel@3")
    x = torch.ones(4, device="sim")  # launch 1
    y = x + 1
    z = y + 1
    event = torch.sim.Event()
    w = z + 1
    with pytest.raises(SimKernelError, match="aten::add failed: injected fault 'kernel'") as raised:
        w.cpu()
    assert device(sim).fault(raised.value) is Fault.KERNEL
    assert y.raw.tolist() == [2.0] * 4
    assert w.raw.isnan().all()
    assert event.query()
    assert (x + 1).tolist() == [2.0] * 4


def test_the_nth_allocation_does_not_fit(start):
    sim = start(faults="oom@2")
    x = torch.ones(4, device="sim")
    with pytest.raises(SimOutOfMemory, match="injected fault 'oom': asked for") as raised:
        x + 1
    assert device(sim).fault(raised.value) is Fault.MEMORY
    assert (x + 1).tolist() == [2.0] * 4


def test_a_lost_device_stays_lost(start):
    sim = start(faults="lost@2")
    x = torch.ones(4, device="sim")
    with pytest.raises(SimDeviceLost, match="sim:0 is lost") as raised:
        x + 1
    assert device(sim).fault(raised.value) is Fault.LOST
    for call in (
        torch.sim.synchronize,
        x.abs,
        x.cpu,
        partial(torch.empty, 1, device="sim"),
        partial(memory_info, sim.boards[0].props),
    ):
        with pytest.raises(SimDeviceLost, match="only a new process"):
            call()
    del x  # giving memory back needs no device


def test_the_nth_kernel_gives_nan(start):
    start(faults="nan@2")
    x = torch.ones(4, device="sim")
    assert (x + 1).cpu().isnan().all()
    assert (x + 1).tolist() == [2.0] * 4


def test_nan_waits_for_a_kernel_that_has_floats(start):
    start(faults="nan@1")
    assert torch.ones(4, dtype=torch.int32, device="sim").tolist() == [1] * 4
    assert torch.ones(4, device="sim").cpu().isnan().all()


def test_faults_of_a_test_begin_to_count_there(sim):
    x = torch.ones(4, device="sim")
    with faults.inject("kernel", at=2) as armed:
        x + 1
        x + 1
        with pytest.raises(SimKernelError):
            torch.sim.synchronize()
        assert armed.happened == 1
    assert (x + 1).tolist() == [2.0] * 4


def test_a_fault_ends_with_its_test(sim):
    with faults.inject("kernel", every=1):
        pass
    assert torch.ones(4, device="sim").tolist() == [1.0] * 4


def test_clear_ends_all(sim):
    faults.inject("oom", every=1)
    faults.clear()
    torch.ones(4, device="sim")


def test_every_nth():
    injector = Injector([FaultPlan(kind="oom", every=3)])
    assert [bool(injector.strike("allocation")) for _ in range(7)] == [
        *(False, False, True),
        *(False, False, True),
        False,
    ]


def test_timed_faults_happen_once_a_period():
    now = [0.0]
    injector = Injector([FaultPlan(kind="kernel", period_s=5.0)], clock=lambda: now[0])
    found = []
    for now[0] in (1.0, 5.0, 5.1, 9.0, 10.5, 11.0):
        found.append(bool(injector.strike("launch")))
    assert found == [False, True, False, False, True, False]


def test_a_probability_is_the_same_with_the_same_seed():
    def draw(seed: int) -> list[bool]:
        injector = Injector([FaultPlan(kind="oom", every=1, probability=0.5)], seed=seed)
        return [bool(injector.strike("allocation")) for _ in range(64)]

    assert draw(1) == draw(1) != draw(2)
    assert 16 < sum(draw(1)) < 48


def test_a_fault_of_one_rank_spares_the_others():
    injector = Injector([FaultPlan(kind="hang", every=1, rank=1)])
    assert not injector.strike("collective", rank=0)
    assert injector.strike("collective", rank=1)


def test_faults_come_from_the_environment(run_python):
    code = """
import torch
from inferplane_sim.backend import install
install()
x = torch.ones(4, device="sim")
try:
    (x + 1).cpu()
except RuntimeError as error:
    print(type(error).__name__)
"""
    assert run_python(code, SIM_FAULTS="kernel@2").split() == ["SimKernelError"]
