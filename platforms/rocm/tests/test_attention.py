"""AITER's attention, emulated with its real signatures, by the reference (V2e)."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from inferplane_rocm.attention import AiterPrefill, AiterUnified
from platforms.rocm.tests import emulated
from tests.fakes.paged import Step, ask

from inferplane.spec import AttentionLimits, DeviceProps

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=10)

PROPS = DeviceProps(
    name="a", profile="a", memory_bytes=1, dtypes={"bf16", "fp16"}, capabilities={"int64_index"}
)
READ = json.loads(Path(__file__).with_name("signatures.json").read_text())
SIGNATURES = {name: text for file in READ.values() for name, text in file.items()}
# a default of the source -> how Python shows the emulator's
SHOWN = {
    "dtypes.bf16": "torch.bfloat16",
    "dtypes.i8": "torch.int8",
    "ActivationType.Silu": "<ActivationType.Silu: 0>",
    "QuantType.No": "<QuantType.No: 0>",
    "GateMode.SEPARATED.value": "'separated'",
}
STEPS = {
    "decodes": ((40, 1), (15, 1), (16, 1), (0, 1)),
    "prefills": ((0, 7), (33, 20), (0, 16), (15, 2)),
    "both": ((40, 1), (7, 1), (0, 9), (20, 30)),
}
CHANGES = {
    "plain": {},
    "window": {"window": 9},
    "softcap": {"softcap": 5.0},
    "sinks": {"sinks": True},
    "fp16": {"dtype": "fp16", "head_dim": 128, "scale": 0.2},
}
LIMITS = AttentionLimits(max_rows=8, max_tokens=64, max_context=1024)


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_emulators_have_the_signatures_that_were_read(name):
    read = SIGNATURES[name]
    for source, python in SHOWN.items():
        read = read.replace(source, python)
    assert str(inspect.signature(getattr(emulated, name))) == read


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("rows", STEPS)
@pytest.mark.parametrize("kernel", [AiterUnified, AiterPrefill])
def test_it_gives_what_the_reference_gives(kernel, rows, change, aiter):
    request = ask(PROPS, **CHANGES[change])
    sinks = torch.linspace(-1, 2, request.heads) if request.sinks else None
    Step(request, STEPS[rows]).check(kernel, LIMITS, sinks)


@pytest.mark.parametrize(("kernel", "copies"), [(AiterUnified, 3), (AiterPrefill, 7)])
def test_plans_go_to_the_device_from_page_locked_memory(kernel, copies, aiter):
    made, seen = kernel(ask(PROPS)), []

    def pin(tensor):
        seen.append(tensor)
        return tensor.clone()

    made.plan(replace(Step(made.request, STEPS["both"]).metadata, pin=pin), None)
    assert len(seen) == copies


@pytest.mark.parametrize("kernel", [AiterUnified, AiterPrefill])
def test_a_plan_for_a_graph_is_read_by_what_was_captured(kernel, aiter):
    """The run that a graph replays has the first plan; the second plan writes where it reads."""
    made = kernel(ask(PROPS))
    buffers = made.buffers(LIMITS, torch.device("cpu"))
    first = Step(made.request, ((40, 1), (15, 1)), seed=1, padded=True)
    second = Step(made.request, ((3, 1), (60, 1)), seed=2, padded=True)
    captured = made.plan(first.metadata, buffers)
    made.plan(second.metadata, buffers)
    out = torch.empty_like(second.q)
    made.run(second.q, second.k, second.v, second.cache, captured, out)
    torch.testing.assert_close(out, second.reference(), atol=2e-2, rtol=2e-2)


def test_rows_that_pad_a_graph_touch_no_page_outside_the_pool(aiter):
    made = AiterUnified(ask(PROPS))
    step = Step(made.request, ((40, 1), (0, 1)), padded=True)
    step.metadata.context_lens[1] = 0
    step.metadata.page_table[1] = -1
    found = step.run(made, made.buffers(LIMITS, torch.device("cpu")))
    torch.testing.assert_close(found[0], step.reference()[0], atol=2e-2, rtol=2e-2)


def test_the_libraries_namesake_is_refused_when_it_is_loaded(monkeypatch):
    import sys
    from types import ModuleType

    monkeypatch.setitem(sys.modules, "aiter", ModuleType("aiter"))
    with pytest.raises(ImportError, match="is not AMD's: pip uninstall aiter"):
        AiterUnified(ask(PROPS))
