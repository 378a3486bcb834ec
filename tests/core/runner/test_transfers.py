"""Copies between host and device. What runs behind the host is tested on the simulated device."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.fakes.plugins import PROPS

from inferplane.runner.transfers import Transfers
from inferplane.spec import Device

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)


def test_the_host_shares_its_arrays():
    array = np.arange(3)
    tensor = Transfers(Device("cpu", PROPS)).send(array)
    assert tensor.data_ptr() == array.ctypes.data


def test_without_events_nothing_overlaps_even_if_asked_for():
    assert not Transfers(Device("cpu", PROPS), overlap=True).overlaps


def test_what_is_read_is_there_and_none_stays_none():
    found = Transfers(Device("cpu", PROPS)).read([torch.ones(2), None]).get()
    assert torch.equal(found[0], torch.ones(2))
    assert found[1] is None
