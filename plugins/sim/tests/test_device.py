"""The driver of a device, through the contract."""

from __future__ import annotations

import pytest
import torch
from inferplane_sim.device import SimDevice, probe
from inferplane_sim.plugin import inferplane_device

from inferplane.spec import Fault

pytestmark = pytest.mark.ci(platforms=["sim"], suite="plugins", est_seconds=3)


@pytest.fixture
def device(start) -> SimDevice:
    driver = start(devices=2, memory_mb=64)
    made = inferplane_device(driver.boards[1].props)
    made.activate()
    return made


def test_probe_finds_as_many_as_the_settings_say(monkeypatch):
    monkeypatch.setenv("SIM_DEVICES", "3")
    assert [props.index for props in probe().devices] == [0, 1, 2]


def test_activate_makes_it_the_current_device(device):
    assert device.torch_device == torch.device("sim", 1)
    assert torch.empty(1, device="sim").device == device.torch_device
    torch.sim.set_device(0)


def test_streams_and_events_are_those_of_the_device(device):
    stream, event = device.stream(), device.event()
    x = torch.ones(3, device=device.torch_device)
    event.record()
    with stream:
        event.wait(stream)
        y = x + 1
    stream.synchronize()
    assert y.raw.tolist() == [2.0] * 3


def test_synchronize_does_all_work(device):
    x = torch.ones(3, device=device.torch_device)
    device.synchronize()
    assert x.raw.tolist() == [1.0] * 3


def test_peak_memory_is_measured(device):
    device.reset_peak()
    x = torch.empty(1000, dtype=torch.uint8, device=device.torch_device)
    del x
    device.empty_cache()
    assert device.peak_bytes() == 1000


def test_a_pinned_tensor_is_a_copy(device):
    host = torch.ones(3)
    pinned = device.pin(host)
    pinned.fill_(2.0)
    assert host.tolist() == [1.0] * 3


def test_seeding_makes_random_numbers_repeat(device):
    device.seed(3)
    first = torch.randn(4, device=device.torch_device).tolist()
    device.seed(3)
    assert torch.randn(4, device=device.torch_device).tolist() == first


def test_an_error_that_is_not_ours_is_a_kernel_error(device):
    assert device.fault(ValueError("x")) is Fault.KERNEL
