"""The CPU as a device."""

from __future__ import annotations

import pytest
import torch

from inferplane.platforms.cpu.device import PROFILES, CPUDevice
from inferplane.spec import Fault

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)


def test_an_allocation_that_does_not_fit_is_a_fault_of_memory():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert CPUDevice("cpu", PROFILES[0]).fault(raised.value) is Fault.MEMORY


@pytest.mark.parametrize("error", [RuntimeError("a kernel failed"), ValueError("no")])
def test_other_errors_are_of_the_kernel(error):
    assert CPUDevice("cpu", PROFILES[0]).fault(error) is Fault.KERNEL
