"""Errors of HIP."""

from __future__ import annotations

import pytest
import torch
from inferplane_rocm.device import HIPDevice

from inferplane.spec import DeviceProps, Fault

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=2)

PROPS = DeviceProps(name="a", profile="a", memory_bytes=1, dtypes={"fp32"})


@pytest.mark.parametrize(
    ("text", "code", "kind"),
    [
        ("HIP error: out of memory", 2, Fault.MEMORY),
        ("HIP error: an illegal memory access was encountered", 700, Fault.LOST),
        ("HIP error", 719, Fault.LOST),
        ("HIP error: invalid device function", 98, Fault.KERNEL),
        ("Triton Error [HIP]:  Code: 719, Messsage: unspecified launch failure", None, Fault.LOST),
        ("HIPBLAS_STATUS_NOT_SUPPORTED", None, Fault.KERNEL),
    ],
)
def test_an_error_is_of_one_kind(text, code, kind):
    error = torch.AcceleratorError(text) if code else RuntimeError(text)
    if code:
        error.error_code = code
    assert HIPDevice("cuda", PROPS).fault(error) is kind


def test_torchs_out_of_memory_is_memory():
    error = torch.OutOfMemoryError("HIP out of memory.")
    assert HIPDevice("cuda", PROPS).fault(error) is Fault.MEMORY
