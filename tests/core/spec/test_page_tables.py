"""Page tables on the device, at addresses that do not change."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.fakes.paged import Step, ask

from inferplane.spec import AttentionLimits, DeviceProps, PageTableAttention

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)

PROPS = DeviceProps(name="a", profile="a", memory_bytes=1, dtypes=frozenset({"bf16"}))
LIMITS = AttentionLimits(max_rows=4, max_tokens=64, max_context=256)


class Kernel(PageTableAttention):
    def attend(self, *args, **kwargs) -> None:
        raise NotImplementedError


def plan(rows, buffers=None, padded=False, **changes):
    kernel = Kernel(ask(PROPS, **changes))
    step = Step(kernel.request, rows, padded=padded)
    if buffers is None:
        return step, kernel.plan(step.metadata, None), None
    made = kernel.buffers(LIMITS, torch.device("cpu")) if buffers == "new" else buffers
    return step, kernel.plan(step.metadata, made), made


@pytest.mark.parametrize("buffers", [None, "new"])
def test_a_plan_is_the_metadata(buffers):
    step, found, _ = plan(((40, 1), (7, 1), (20, 30)), buffers)
    assert found.starts_B1.tolist() == step.metadata.query_starts.tolist()
    assert found.lengths_B.tolist() == [41, 8, 50]
    assert torch.equal(found.table_BW, torch.from_numpy(step.metadata.page_table).clamp(min=0))
    assert (found.decodes, found.longest_new, found.longest) == (2, 30, 50)


def test_pages_outside_a_window_are_page_0():
    step, found, _ = plan(((100, 1),), window=9)
    assert step.metadata.page_table[0, 0] == -1
    assert found.table_BW.min() >= 0


def test_the_next_plan_is_written_to_the_same_places():
    _, first, buffers = plan(((40, 1), (15, 1)), "new", padded=True)
    step, second, _ = plan(((3, 1), (60, 1)), buffers, padded=True)
    for name in ("starts_B1", "lengths_B", "table_BW"):
        assert getattr(first, name).data_ptr() == getattr(second, name).data_ptr()
        assert getattr(first, name).shape == getattr(second, name).shape
    assert first.lengths_B.tolist() == [4, 61]
    assert first.table_BW[1, :4].tolist() == step.metadata.page_table[1].tolist()


def test_bounds_of_a_padded_step_hold_for_every_step():
    _, found, _ = plan(((40, 1), (15, 1)), "new", padded=True)
    assert (found.longest_new, found.longest) == (1, 256)
    assert found.table_BW.shape == (2, 16)


def test_what_goes_to_the_device_is_page_locked_first():
    kernel = Kernel(ask(PROPS))
    step = Step(kernel.request, ((40, 1), (7, 1)))
    seen = []

    def pin(tensor):
        seen.append(tensor.numel())
        return tensor.clone()

    kernel.plan(replace(step.metadata, pin=pin), None)
    assert sorted(seen) == sorted([2 * step.metadata.page_table.shape[1], 3, 2])
