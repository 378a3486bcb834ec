"""Links between the GPUs that this process sees (V2e: the published package over a C library)."""

from __future__ import annotations

import pytest
from inferplane_rocm.plugin import inferplane_topology
from inferplane_rocm.probe import probe

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=3)


def links(file):
    return inferplane_topology(probe(file).devices[0]).links


def test_links_of_all_gpus(smi, hip_torch):
    for _ in range(3):
        smi.add()
    smi.join(2)
    smi.state.links[0][2] = 1
    smi.state.links[2][0] = 99
    assert links(hip_torch(3)) == (
        ("", "xgmi", "pcie"),
        ("xgmi", "", "xgmi"),
        ("unknown", "xgmi", ""),
    )


def test_gpus_that_are_hidden_are_left_out(smi, hip_torch):
    for _ in range(4):
        smi.add()
    smi.join(1)
    smi.state.links[2][3] = smi.state.links[3][2] = 2
    assert links(hip_torch(2, first=2)) == (("", "xgmi"), ("xgmi", ""))


def test_the_order_is_that_of_the_probe(smi, hip_torch, monkeypatch):
    """As HIP_VISIBLE_DEVICES=2,0 has it."""
    import torch

    for _ in range(3):
        smi.add()
    smi.state.links[2][0], smi.state.links[0][2] = 2, 1
    file = hip_torch(3)
    ask = torch.cuda.get_device_properties
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: ask((2, 0)[i]))
    assert links(file) == (("", "xgmi"), ("pcie", ""))


def test_a_gpu_that_amdsmi_does_not_know_has_unknown_links(smi, hip_torch):
    smi.add(), smi.add()
    smi.join(2)
    assert links(hip_torch(3))[0] == ("", "xgmi", "unknown")
