"""Attention: splits, tiles, padding, pages of every size, fp8 caches, and what capture needs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from batches import FEW_CORES, SMALL, SPLIT, both, error, metadata, request, tensors
from inferplane_triton import attention as module
from inferplane_triton.attention import Attention

from inferplane.spec import AttentionLimits

DECODES = [(0, 1), (16, 1), (77, 1), (130, 1)]
MIXED = [(90, 1), (3, 1), (0, 9), (64, 30)]

SEMANTICS = {
    "plain": {},
    "no-groups": {"heads": 2, "kv_heads": 2},
    "groups-of-three": {"heads": 6},
    "groups-of-twenty": {"heads": 20, "kv_heads": 1},
    "window": {"window": 70},
    "window-no-groups": {"heads": 2, "kv_heads": 2, "window": 70},
    "sinks": {"sinks": True},
    "sinks-no-groups": {"heads": 2, "kv_heads": 2, "sinks": True},
    "softcap-sinks-window": {"softcap": 2.0, "sinks": True, "window": 70},
    "fp8": {"kv_dtype": "fp8_e4m3"},
    "fp8-scales-sinks": {"kv_dtype": "fp8_e4m3", "kv_scales": True, "sinks": True},
    "scales-no-groups": {"heads": 2, "kv_heads": 2, "kv_scales": True},
    "fp8-no-groups": {"heads": 2, "kv_heads": 2, "kv_dtype": "fp8_e4m3"},
}


@pytest.mark.parametrize("fields", SEMANTICS.values(), ids=SEMANTICS)
def test_split_decodes_equal_the_reference(fields):
    found, right, plan = both(request(**fields), DECODES)
    assert plan.splits >= 2
    assert error(found, right) < 2e-6


@pytest.mark.parametrize("fields", SEMANTICS.values(), ids=SEMANTICS)
def test_small_tiles_of_a_mixed_step_equal_the_reference(fields):
    found, right, plan = both(request(**fields), MIXED)
    assert plan.tiles >= 3
    assert error(found, right) < 2e-6


@pytest.mark.parametrize("page", [1, 2, 3, 5, 8, 64, 128])
def test_every_page_size(page):
    found, right, _ = both(request(page_size=page, head_dim=16), [(page + 1, 1), (page - 1, 18)])
    assert error(found, right) < 2e-6


@pytest.mark.parametrize("head_dim", [24, 40, 64, 80])
def test_head_sizes_that_need_padding(head_dim):
    found, right, _ = both(request(head_dim=head_dim), [(19, 1), (5, 12)])
    assert error(found, right) < 2e-6


@pytest.mark.parametrize("counts", [[(50, 1), (70, 1)], [(20, 17)]], ids=["decode", "prefill"])
def test_half_precision(counts):
    found, right, _ = both(request(dtype="fp16"), counts)
    assert error(found, right) < 2e-3


@pytest.mark.parametrize("counts", [[(50, 1), (70, 1)], [(20, 17)]], ids=["decode", "prefill"])
@pytest.mark.parametrize("fields", [{}, {"heads": 2}], ids=["groups", "no-groups"])
def test_bfloat16(mended, counts, fields):
    found, right, _ = both(request(dtype="bf16", **fields), counts)
    assert error(found, right) < 2e-2


def test_a_bfloat16_product_without_the_patch_is_wrong_so_that_the_patch_is_what_counts():
    found, right, _ = both(request(dtype="bf16"), [(50, 1), (70, 1)])
    assert error(found, right) > 1


def test_many_rows_are_not_split():
    found, right, plan = both(request(), [(20, 1)] * 4, decode={**SPLIT, "waves": 1})
    assert plan.splits == 1
    assert error(found, right) < 2e-6


def test_a_row_of_no_tokens_is_padding():
    r = request()
    meta = metadata([(30, 1), (9, 1)], r.page_size, np.random.default_rng(0))
    given = tensors(r, meta)
    kernel = Attention(r, decode=SPLIT, prefill=SMALL)
    limits = AttentionLimits(max_rows=2, max_tokens=2, max_context=64)
    buffers = kernel.buffers(limits, torch.device("cpu"))
    outputs = []
    for length in (10, 0):
        meta.context_lens[1] = length
        out = torch.full_like(given["q"], float("nan"))
        kernel.run(given["q"], None, None, given["cache"], kernel.plan(meta, buffers), out)
        outputs.append(out)
    assert torch.equal(outputs[0][0], outputs[1][0])
    assert torch.equal(outputs[1][1], torch.zeros_like(outputs[1][1]))


def test_a_captured_decode_would_read_new_lengths_at_the_same_addresses(monkeypatch):
    r = request(sinks=True)
    kernel = Attention(r, decode=SPLIT, prefill=SMALL)
    limits = AttentionLimits(max_rows=4, max_tokens=8, max_context=256)
    buffers = kernel.buffers(limits, torch.device("cpu"))
    seen = []

    def note(function, grid, *arguments, options, **constants):
        places = [a.data_ptr() if isinstance(a, torch.Tensor) else a for a in arguments]
        seen[-1].append((function.__name__, grid, places, constants, dict(options)))

    monkeypatch.setattr(module, "launch", note)
    for rows in ([(3, 1), (200, 1)], [(250, 1), (0, 1)]):
        meta = metadata(rows, r.page_size, np.random.default_rng(0))
        plan = kernel.plan(meta, buffers)
        q = torch.empty(0)
        if not seen:
            q, cache = torch.zeros(2, 4, 32), torch.zeros(999, 4, 2, 2, 32)
            kept = q, cache, torch.zeros(4)
        seen.append([])
        kernel.run(kept[0], None, None, kept[1], plan, kept[0], kept[2])
    assert seen[0] == seen[1]
    assert [name for name, *_ in seen[0]] == ["decode_kernel", "join_kernel"]


def test_cores_and_rows_give_the_splits_and_lengths_do_not():
    kernel = Attention(request(replace(FEW_CORES, cores=64)), decode=SPLIT, prefill=SMALL)
    limits = AttentionLimits(max_rows=64, max_tokens=64, max_context=4096)
    buffers = kernel.buffers(limits, torch.device("cpu"))
    splits = []
    for rows in (1, 8, 64):
        meta = metadata([(5, 1)] * rows, 4, np.random.default_rng(0))
        splits.append(kernel.plan(meta, buffers).splits)
    assert splits == [64, 16, 2]
