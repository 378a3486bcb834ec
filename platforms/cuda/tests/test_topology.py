"""Links between GPUs (V2e: a C library in NVML's ABI)."""

from __future__ import annotations

import pytest
from inferplane_cuda import probe as probes
from inferplane_cuda.plugin import inferplane_topology
from inferplane_cuda.probe import probe

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=2)

GPU, SWITCH, UNKNOWN = 0, 2, -1
BUS = ("00000000:01:00.0", "00000000:02:00.0", "00000000:03:00.0")


@pytest.fixture
def host(nvml, monkeypatch):
    """Two GPUs."""
    build = {"__version__": "2.13.0+cu130", "cuda": "13.0"}
    monkeypatch.setattr(probes, "torch_build", lambda: build)
    nvml.add(), nvml.add()
    return nvml


def test_a_direct_nvlink_is_seen_from_both_ends(host):
    host.connect(0, (GPU, ""), (GPU, BUS[1]))
    host.connect(1, (UNKNOWN, BUS[0]))
    props = probe().devices[0]
    assert inferplane_topology(props).links == (("", "nvlink"), ("nvlink", ""))
    assert props.detail("links") == "nvlink"


def test_a_switch_joins_all_that_reach_it(host):
    for gpu in (0, 1):
        host.connect(gpu, (SWITCH, "00000000:C1:00.0"))
    assert probe().devices[0].detail("links") == "nvswitch"


@pytest.mark.parametrize(("level", "kind"), [(10, "pcie:switch"), (50, "pcie:system")])
def test_without_nvlink_the_way_over_pcie_is_told(level, kind, host):
    host.state.level = level
    props = probe().devices[0]
    assert inferplane_topology(props).links[0][1] == kind
    assert props.detail("links") == "pcie"


def test_one_pair_without_nvlink_makes_the_whole_slow(host):
    host.add()
    host.connect(0, (GPU, BUS[1]))
    host.connect(1, (GPU, BUS[0]))
    assert probe().devices[0].detail("links") == "pcie"


def test_one_gpu_has_no_links(host, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert probe().devices[0].detail("links") == ""
