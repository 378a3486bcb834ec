"""Memory: NVML alone, or torch checked by NVML (V2e)."""

from __future__ import annotations

import pytest
import torch
from inferplane_cuda import probe as probes
from inferplane_cuda.memory import memory_info, system_memory
from inferplane_cuda.probe import probe

from inferplane.spec import GiB

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=3)


@pytest.fixture
def props(nvml, monkeypatch):
    build = {"__version__": "2.13.0+cu130", "cuda": "13.0"}
    monkeypatch.setattr(probes, "torch_build", lambda: build)
    nvml.add(free=70 * GiB)
    return probe().devices[0]


@pytest.fixture
def use_torch(monkeypatch):
    """(free GiB): torch uses the GPU and says so much is free; it holds 5 GiB."""

    def use(free: float) -> None:
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda index: 5 * GiB)
        monkeypatch.setattr(
            torch.cuda, "mem_get_info", lambda index: (int(free * GiB), int(79.5 * GiB))
        )

    return use


def test_a_process_that_does_not_use_the_gpu_asks_nvml_alone(props, monkeypatch):
    def touched(index):
        raise AssertionError("that makes a context")

    monkeypatch.setattr(torch.cuda, "mem_get_info", touched)
    info = memory_info(props)
    assert (info.free_bytes, info.total_bytes, info.source) == (70 * GiB, 80 * GiB, "NVML")
    assert info.used_by_us_bytes == -1


def test_where_both_agree_torchs_figure_counts(props, use_torch):
    use_torch(69.5)
    info = memory_info(props)
    assert info.free_bytes == int(69.5 * GiB)
    assert info.source == "torch.cuda.mem_get_info, as NVML"
    assert info.used_by_us_bytes == 5 * GiB


def test_where_they_disagree_the_smaller_counts_and_both_are_told(props, use_torch):
    use_torch(75)
    info = memory_info(props)
    assert info.free_bytes == 70 * GiB
    assert "75.0 GiB free" in info.source
    assert "NVML (70.0 GiB free)" in info.source


def test_nvml_that_fails_later_is_told(props, use_torch, nvml):
    use_torch(75)
    nvml.state.init = 9
    info = memory_info(props)
    assert info.source == "torch.cuda.mem_get_info (NVML: Driver Not Loaded)"


def test_shared_memory_is_what_the_system_would_give(nvml, monkeypatch, use_torch):
    monkeypatch.setattr(probes, "torch_build", lambda: {"__version__": "2.13", "cuda": "13.0"})
    nvml.add("NVIDIA GB10", shares=1, major=12, minor=1)
    props = probe().devices[0]
    use_torch(0.5)
    info = memory_info(props)
    available, total = system_memory()
    assert info.unified
    assert info.total_bytes == total
    assert info.free_bytes == pytest.approx(available, rel=0.2)
    assert "mem_get_info says 0.5 GiB free" in info.source


def test_the_hosts_memory_is_read_from_the_kernels_file(tmp_path):
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:  1000 kB\nMemFree:  10 kB\nMemAvailable:  400 kB\n")
    assert system_memory(file) == (400 * 1024, 1000 * 1024)
