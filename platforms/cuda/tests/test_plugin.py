"""The plugin as the core meets it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from inferplane_cuda import plugin

from inferplane.plugins.binding import load
from inferplane.plugins.discovery import discover

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=4)

HOOKS = ("attention", "quantization", "communicator", "graphs")


@pytest.fixture(scope="module")
def h200():
    return plugin.inferplane_platform().profile("h200")


def test_discovery_imports_no_torch_and_no_nvidia_library(run_python):
    code = """
import sys
from inferplane.plugins.discovery import discover
assert [p.name for p in discover() if p.ready and p.name == "cuda"] == ["cuda"]
print([m for m in ("torch", "pynvml", "flashinfer", "flash_attn") if m in sys.modules])
"""
    assert run_python(code).strip() == "[]"


def test_it_is_ready_without_a_warning():
    (found,) = (p for p in discover() if p.name == "cuda")
    assert (found.error, found.warnings) == (None, [])


def offered(props):
    return [c for hook in HOOKS for c in getattr(plugin, f"inferplane_{hook}")(props)]


def test_every_candidate_loads(h200, libraries):
    for candidate in offered(h200):
        assert callable(load(candidate)), candidate.name


def test_unified_memory_leaves_more_for_other_programs(h200):
    assert plugin.inferplane_settings({}, h200) == []
    shared = replace(h200, capabilities=h200.capabilities | {"unified_memory"})
    (proposal,) = plugin.inferplane_settings({}, shared)
    assert (proposal.key, proposal.value) == ("memory_fraction", 0.7)
