"""FlashInfer and FlashAttention, emulated with their real signatures, by the reference (V2e)."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from inferplane_cuda.attention import FlashAttention2, FlashAttention3, FlashInfer, Plan
from platforms.cuda.tests import emulated
from tests.fakes.paged import Step, ask

from inferplane.spec import AttentionLimits, DeviceProps

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=20)

PROPS = DeviceProps(
    name="a", profile="a", memory_bytes=1, dtypes={"bf16", "fp16"}, capabilities={"int64_index"}
)
SIGNATURES = json.loads(Path(__file__).with_name("signatures.json").read_text())
KERNELS = [(FlashInfer, 16), (FlashAttention2, 256), (FlashAttention3, 16)]
STEPS = {
    "decodes": ((40, 1), (15, 1), (16, 1), (0, 1)),
    "prefills": ((0, 7), (33, 20), (0, 16), (15, 2)),
    "both": ((40, 1), (7, 1), (0, 9), (20, 30)),
    "one token": ((0, 1),),
}
CHANGES: dict[str, dict[str, Any]] = {
    "plain": {},
    "one query head a kv head": {"heads": 2},
    "window": {"window": 9},
    "softcap": {"softcap": 5.0},
    "fp16": {"dtype": "fp16", "head_dim": 128},
    "scale": {"scale": 0.3},
}
LIMITS = AttentionLimits(max_rows=8, max_tokens=64, max_context=1024)


def flat(prefix: str, names: dict[str, Any]) -> dict[str, str]:
    """Signatures without annotations, by dotted name."""
    found = {}
    for name in names:
        target: Any = emulated
        for piece in name.split("."):
            target = getattr(target, piece)
        signature = inspect.signature(target)
        plain = [
            p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()
        ]
        found[name] = str(
            signature.replace(parameters=plain, return_annotation=inspect.Signature.empty)
        )
    return found


@pytest.mark.parametrize("library", SIGNATURES)
def test_the_emulators_have_the_signatures_that_were_read(library):
    assert flat(library, SIGNATURES[library]) == SIGNATURES[library]


def test_an_unknown_argument_is_refused_as_by_the_library(libraries):
    wrapper = emulated.BatchDecodeWithPagedKVCacheWrapper(torch.zeros(1, dtype=torch.uint8))
    with pytest.raises(TypeError, match="sm_scales"):
        wrapper.plan(*[None] * 7, sm_scales=1.0)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("rows", STEPS)
@pytest.mark.parametrize(("kernel", "page"), KERNELS)
def test_it_gives_what_the_reference_gives(kernel, page, rows, change, libraries):
    request = ask(PROPS, page_size=page, **CHANGES[change])
    Step(request, STEPS[rows], pool=16 if page > 16 else 64).check(kernel, LIMITS)


def addresses(plan: Any) -> list[int]:
    """Of all tensors that a run with this plan reads."""
    held = plan.decode if isinstance(plan, Plan) else plan
    names = ("starts_buffer", "pages_buffer", "last_buffer", "starts_B1", "lengths_B", "table_BW")
    return [getattr(held, name).data_ptr() for name in names if hasattr(held, name)]


@pytest.mark.parametrize("kernel", [FlashInfer, FlashAttention3])
def test_a_plan_for_a_graph_is_read_by_what_was_captured(kernel, libraries):
    """The run that a graph replays has the first plan; the second plan writes where it reads."""
    request = ask(PROPS)
    made = kernel(request)
    buffers = made.buffers(LIMITS, torch.device("cpu"))
    first = Step(request, ((40, 1), (15, 1)), seed=1, padded=True)
    second = Step(request, ((3, 1), (60, 1)), seed=2, padded=True)
    captured = made.plan(first.metadata, buffers)
    before = addresses(captured)
    assert addresses(made.plan(second.metadata, buffers)) == before
    out = torch.empty_like(second.q)
    made.run(second.q, second.k, second.v, second.cache, captured, out)
    torch.testing.assert_close(out, second.reference(), atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("kernel", [FlashInfer, FlashAttention3])
def test_rows_that_pad_a_graph_touch_no_page_outside_the_pool(kernel, libraries):
    request = ask(PROPS)
    step = Step(request, ((40, 1), (0, 1)), padded=True)
    step.metadata.context_lens[1] = 0
    step.metadata.page_table[1] = -1
    made = kernel(request)
    found = step.run(made, made.buffers(LIMITS, torch.device("cpu")))
    torch.testing.assert_close(found[0], step.reference()[0], atol=2e-2, rtol=2e-2)


def test_wrappers_are_made_once(libraries):
    request = ask(PROPS)
    made = FlashInfer(request)
    buffers = made.buffers(LIMITS, torch.device("cpu"))
    step = Step(request, STEPS["both"])
    plans = [made.plan(step.metadata, buffers) for _ in range(2)]
    assert plans[0].decode is plans[1].decode
    assert plans[0].prefill is plans[1].prefill
