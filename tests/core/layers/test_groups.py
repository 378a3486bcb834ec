"""Layers with the same layout and reuse rule share a page table."""

from __future__ import annotations

import pytest
import torch
from tests.fakes.models import build, logits, plan
from tests.fakes.requests import attention

from inferplane.layers.groups import Groups
from inferplane.spec import GroupKind, standard_layout

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=10)

WINDOWS = {
    "use_sliding_window": True,
    "sliding_window": 6,
    "layer_types": ["full_attention", "sliding_attention", "full_attention"],
}


def add(groups: Groups, layer: int, **changes) -> int:
    request = attention(**changes)
    return groups.add(layer, request, standard_layout(request))


def test_equal_layers_share_a_group():
    groups = Groups()
    assert [add(groups, layer) for layer in range(3)] == [0, 0, 0]
    assert groups.all()[0].layers == (0, 1, 2)


@pytest.mark.parametrize(
    "changes", [{"kind": GroupKind.WINDOW, "window": 4}, {"kv_dtype": "bf16"}, {"kv_heads": 1}]
)
def test_other_layers_get_another_group(changes):
    groups = Groups()
    assert [add(groups, 0), add(groups, 1, **changes), add(groups, 2)] == [0, 1, 0]
    assert groups.of(1) == 1


def test_a_model_with_windows_has_two_groups(tmp_path):
    groups = plan(tmp_path, **WINDOWS).groups
    assert [(g.name, g.kind, g.window, g.layers) for g in groups] == [
        ("full", GroupKind.FULL, 0, (0, 2)),
        ("window6", GroupKind.WINDOW, 6, (1,)),
    ]


def test_each_layer_reads_the_cache_of_its_group(tmp_path):
    runner = build(plan(tmp_path, **WINDOWS))
    assert [runner.slots[layer].group for layer in range(3)] == [0, 1, 0]


@pytest.mark.parametrize("chunks", [(20,), (8, 8, 4), (11, 1, 1, 7)])
def test_mixed_groups_compute_what_the_reference_computes(tmp_path, chunks):
    found = logits(build(plan(tmp_path, **WINDOWS)), chunks)
    reference = plan(tmp_path, kernel=["attention=reference.attention"], **WINDOWS)
    torch.testing.assert_close(found, logits(build(reference)), rtol=1e-4, atol=1e-4)


def test_a_window_changes_the_result(tmp_path):
    windowed, full = logits(build(plan(tmp_path, **WINDOWS))), logits(build(plan(tmp_path)))
    torch.testing.assert_close(windowed[:6], full[:6], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(windowed[10:], full[10:], rtol=1e-2, atol=1e-2)
