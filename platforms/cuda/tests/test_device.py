"""Errors of CUDA, and the order of devices."""

from __future__ import annotations

import os

import pytest
import torch
from inferplane_cuda.device import CUDADevice

from inferplane.spec import DeviceProps, Fault

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=2)

UUID = "0aaaaaaa-0000-0000-0000-000000000000"


@pytest.fixture
def device(monkeypatch):
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # put back at the end
    props = DeviceProps(
        name="a", profile="a", memory_bytes=1, dtypes={"fp32"}, details=(("uuid", f"GPU-{UUID}"),)
    )
    return CUDADevice("cuda", props)


def accelerator_error(text: str, code: int) -> Exception:
    error = torch.AcceleratorError(text)
    error.error_code = code
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), Fault.MEMORY),
        (accelerator_error("CUDA error: out of memory", 2), Fault.MEMORY),
        (
            accelerator_error("CUDA error: an illegal memory access was encountered", 700),
            Fault.LOST,
        ),
        (accelerator_error("CUDA error", 214), Fault.LOST),
        (accelerator_error("CUDA error", 710), Fault.LOST),
        (accelerator_error("CUDA error", 719), Fault.LOST),
        (accelerator_error("CUDA error: invalid argument", 1), Fault.KERNEL),
        (accelerator_error("CUDA error: no kernel image is available", 209), Fault.KERNEL),
        (RuntimeError("Triton Error [CUDA]: misaligned address"), Fault.LOST),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED"), Fault.KERNEL),
        (ValueError("a shape"), Fault.KERNEL),
    ],
)
def test_an_error_is_of_one_kind(error, kind, device):
    assert device.fault(error) is kind


class Properties:
    def __init__(self, uuid: str) -> None:
        self.uuid = uuid


@pytest.mark.parametrize("prefix", ["", "GPU-"])
def test_the_same_gpu_is_activated(prefix, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: Properties(prefix + UUID))
    device.activate()


@pytest.mark.parametrize(("given", "used"), [(None, "PCI_BUS_ID"), ("FASTEST_FIRST",) * 2])
def test_gpus_are_counted_by_their_address_as_the_probe_does(given, used, device, monkeypatch):
    """By default CUDA counts the fastest first; it reads the variable when it starts."""
    monkeypatch.delenv("CUDA_DEVICE_ORDER")
    if given:
        monkeypatch.setenv("CUDA_DEVICE_ORDER", given)
    seen = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda i: seen.append(os.environ.copy()))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: Properties(UUID))
    device.activate()
    assert seen[0]["CUDA_DEVICE_ORDER"] == used


def test_another_order_of_gpus_is_refused_with_what_to_set(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: Properties("1" + UUID[1:]))
    with pytest.raises(RuntimeError, match="CUDA_DEVICE_ORDER=PCI_BUS_ID"):
        device.activate()
