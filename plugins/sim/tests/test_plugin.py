"""The plugin as the core meets it."""

from __future__ import annotations

import pytest
from inferplane_sim import plugin

from inferplane.plugins.discovery import discover
from inferplane.plugins.selection import select

pytestmark = pytest.mark.ci(platforms=["sim"], suite="plugins", est_seconds=20)


def test_discovery_alone_registers_nothing(run_python):
    code = """
import sys
from inferplane.plugins.discovery import discover
ready = [p.name for p in discover() if p.ready]
assert "torch" not in sys.modules, "torch was imported"
import torch
try:
    torch.device("sim")
    print("registered")
except RuntimeError:
    print("sim" in ready, hasattr(torch, "sim"), torch._C._get_privateuse1_backend_name())
"""
    assert run_python(code).split() == ["True", "False", "privateuseone"]


def test_a_probe_registers_nothing(run_python):
    code = """
import sys
from inferplane_sim.plugin import inferplane_platform
found = inferplane_platform().probe()
print(found.available, "torch" in sys.modules)
"""
    assert run_python(code).split() == ["True", "False"]


def test_auto_never_takes_the_simulator():
    assert select(discover(), "auto").platform.name != "sim"


def test_a_wrong_variable_is_a_missing_device_that_names_the_right_one(monkeypatch):
    monkeypatch.setenv("SIM_MEMROY_MB", "64")
    found = plugin.inferplane_platform().probe()
    assert not found.available
    assert "did you mean SIM_MEMORY_MB" in found.reason


def test_without_kernels_it_offers_collectives_and_graphs_only(monkeypatch):
    monkeypatch.setenv("SIM_KERNELS", "0")
    props = plugin.probe().devices[0]
    hooks = ("ops", "attention", "quantization", "blocks")
    assert [getattr(plugin, f"inferplane_{hook}")(props) for hook in hooks] == [[]] * 4
    assert plugin.inferplane_communicator(props)
    assert plugin.inferplane_graphs(props)


def test_without_graphs_the_capability_is_gone(monkeypatch):
    monkeypatch.setenv("SIM_GRAPHS", "0")
    props = plugin.probe().devices[0]
    assert "graph_capture" not in props.capabilities
    assert plugin.inferplane_graphs(props) == []


def test_attention_has_the_pages_of_the_device():
    props = plugin.probe().devices[0]
    (candidate,) = plugin.inferplane_attention(props)
    assert candidate.page_sizes == (128,)
