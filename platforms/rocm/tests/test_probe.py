"""The probe: which torch, which driver, which GPU."""

from __future__ import annotations

import pytest
import torch
from inferplane_rocm import probe as probes
from inferplane_rocm.probe import probe

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=3)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        ({}, "torch is not installed"),
        ({"__version__": "2.13.0+cpu"}, "torch 2.13.0+cpu has no HIP; no AMD GPU driver"),
        ({"__version__": "2.13", "cuda": "13.0"}, "torch 2.13 is built for CUDA 13.0, not HIP"),
    ],
)
def test_a_torch_that_cannot_drive_it_is_named(build, words, monkeypatch, tmp_path):
    monkeypatch.setattr(probes, "torch_build", lambda: build)
    answer = probe(tmp_path / "kfd")
    assert not answer.available
    assert words in answer.reason
    assert answer.remedy


def test_the_remedy_begins_with_the_driver_where_there_is_none(monkeypatch, tmp_path):
    monkeypatch.setattr(probes, "torch_build", lambda: {"__version__": "2.13.0+cpu"})
    file = tmp_path / "kfd"
    assert probe(file).remedy.startswith("where there is a GPU, install amdgpu; then")
    file.touch()
    assert probe(file).remedy.startswith("install a torch that is built for ROCm")


def test_without_the_driver_torch_is_not_asked(hip_torch, tmp_path):
    hip_torch(1).unlink()
    answer = probe(tmp_path / "kfd")
    assert "no AMD GPU driver" in answer.reason
    assert "--device" in answer.remedy


def test_a_missing_permission_is_named(hip_torch, monkeypatch):
    file = hip_torch(1)
    monkeypatch.setattr(probes.os, "access", lambda *_: False)
    answer = probe(file)
    assert "no permission for" in answer.reason
    assert "group render" in answer.remedy


def test_hips_own_reason_is_given(hip_torch, monkeypatch):
    file = hip_torch(1)

    def broken():
        raise RuntimeError("No HIP GPUs are available")

    monkeypatch.setattr(torch.cuda, "init", broken)
    assert "No HIP GPUs are available; no variable hides any" in probe(file).reason


def test_a_variable_that_hides_all_is_named_where_torch_raises(hip_torch, monkeypatch):
    """As torch does where HIP has no GPU left."""
    file = hip_torch(0)

    def none_left():
        raise RuntimeError("No HIP GPUs are available")

    monkeypatch.setattr(torch.cuda, "init", none_left)
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "")
    answer = probe(file)
    assert "No HIP GPUs are available; HIP_VISIBLE_DEVICES is ''" in answer.reason
    assert "HIP_VISIBLE_DEVICES" in answer.remedy


def test_variables_that_torch_refuses_are_named(hip_torch, monkeypatch):
    file = hip_torch(1)

    def refused():
        raise RuntimeError("HIP_VISIBLE_DEVICES contains more devices than ROCR_VISIBLE_DEVICES")

    monkeypatch.setattr(torch.cuda, "device_count", refused)
    answer = probe(file)
    assert "more devices than ROCR_VISIBLE_DEVICES" in answer.reason
    assert answer.remedy


def test_a_variable_that_hides_all_is_named(hip_torch, monkeypatch):
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "9")
    assert "ROCR_VISIBLE_DEVICES is '9'" in probe(hip_torch(0)).reason


def test_a_gpu_carries_what_planning_needs(hip_torch, no_smi):
    first, second = probe(hip_torch(2)).devices
    assert (first.profile, first.cores, first.memory_bytes) == ("mi300x", 304, 192 << 30)
    assert (first.detail("gfx"), first.detail("fp8")) == ("gfx942", "fp8_e4m3fnuz")
    assert {"triton", "graph_capture", "fp8_e4m3fnuz_gemm"} <= first.capabilities
    assert "fp8_e4m3_gemm" not in first.capabilities
    assert (second.index, second.detail("pci")) == (1, "0000:c2:00.0")
    assert second.detail("links") == ""


@pytest.fixture
def kfd(tmp_path, monkeypatch):
    """(XGMI hive of each GPU): the kernel's nodes, a CPU first."""

    def use(*hives: int) -> None:
        nodes = [(0, 0), *(((0xC1 + at) << 8, hive) for at, hive in enumerate(hives))]
        for at, (location, hive) in enumerate(nodes):
            (tmp_path / str(at)).mkdir()
            text = f"cpu_cores_count 0\nlocation_id {location}\ndomain 0\nhive_id {hive}\n"
            (tmp_path / str(at) / "properties").write_text(text)
        monkeypatch.setattr("inferplane_rocm.topology.NODES", tmp_path)

    return use


@pytest.mark.parametrize(
    ("hives", "word"), [((7, 7), "xgmi"), ((0, 0), "pcie"), ((7, 8), "pcie"), ((7,), ""), ((), "")]
)
def test_without_amdsmi_links_come_from_the_kernel(hives, word, hip_torch, no_smi, kfd):
    kfd(*hives)
    assert probe(hip_torch(2)).devices[0].detail("links") == word


def test_a_node_that_may_not_be_read_is_no_obstacle(hip_torch, no_smi, kfd, tmp_path):
    kfd(7, 7)
    (tmp_path / "9" / "properties").mkdir(parents=True)  # reading it is an OSError
    assert probe(hip_torch(2)).devices[0].detail("links") == "xgmi"


def test_one_gpu_has_no_links(hip_torch, no_smi, kfd):
    kfd(7)
    assert probe(hip_torch(1)).devices[0].detail("links") == ""


@pytest.mark.parametrize(("kind", "word"), [(2, "xgmi"), (1, "pcie"), (99, "unknown")])
def test_links_come_from_amdsmi(kind, word, hip_torch, smi):
    smi.add(), smi.add()
    smi.join(kind)
    assert probe(hip_torch(2)).devices[0].detail("links") == word
