"""Latent attention and its KV write: splits, tiles of queries and heads, padding, scaled caches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from batches import FEW_HEADS, ROWS, both, error, latent, metadata
from inferplane_triton import latent as module
from inferplane_triton.latent import LatentAttention
from inferplane_triton.write import kv_write
from interpreter_platform import PROPS

from inferplane.reference.kv import write as reference_write
from inferplane.spec import AttentionLimits, KVWriteRequest
from inferplane.spec.torch_types import torch_dtype

DECODES = [(0, 1), (16, 1), (130, 1)]
MIXED = [(90, 1), (0, 9), (30, 6)]
SHAPES = {
    "plain": {},
    "one-head": {"heads": 1},
    "twenty-heads": {"heads": 20},
    "odd": {"heads": 3, "head_dim": 29, "value_dim": 24},
    "fp8-scales": {"kv_dtype": "fp8_e4m3", "kv_scales": True},
    "scales": {"kv_scales": True, "page_size": 3},
}


@pytest.mark.parametrize("fields", SHAPES.values(), ids=SHAPES)
def test_split_decodes_equal_the_reference(fields):
    found, right, plan = both(latent(**fields), DECODES)
    assert plan.splits >= 2
    assert error(found, right) < 2e-6


@pytest.mark.parametrize("fields", SHAPES.values(), ids=SHAPES)
def test_tiles_of_a_mixed_step_equal_the_reference(fields):
    found, right, plan = both(latent(**fields), MIXED)
    assert plan.tiles >= 2
    assert error(found, right) < 2e-6


def test_the_sizes_of_deepseek():
    found, right, _ = both(latent(heads=16, head_dim=576, value_dim=512), [(20, 1), (3, 2)])
    assert error(found, right) < 2e-6


@pytest.mark.parametrize(("dtype", "most"), [("fp16", 2e-3), ("bf16", 2e-2)])
def test_half_precision(mended, dtype, most):
    found, right, _ = both(latent(dtype=dtype), MIXED)
    assert error(found, right) < most


def test_a_row_of_no_tokens_is_padding():
    r = latent()
    meta = metadata([(30, 1), (9, 1)], r.page_size, np.random.default_rng(0))
    meta.context_lens[1] = 0
    kernel = LatentAttention(r, FEW_HEADS, ROWS)
    limits = AttentionLimits(max_rows=2, max_tokens=2, max_context=64)
    plan = kernel.plan(meta, kernel.buffers(limits, torch.device("cpu")))
    out = torch.full((2, 4, 32), float("nan"))
    cache = torch.randn(meta.page_table.size, r.page_size, 40)
    kernel.run(torch.randn(2, 4, 40), None, None, cache, plan, out)
    assert bool(out[0].isfinite().all())
    assert torch.equal(out[1], torch.zeros_like(out[1]))


def test_a_captured_decode_would_read_new_lengths_at_the_same_addresses(monkeypatch):
    r = latent()
    kernel = LatentAttention(r, FEW_HEADS, ROWS)
    limits = AttentionLimits(max_rows=4, max_tokens=8, max_context=256)
    buffers = kernel.buffers(limits, torch.device("cpu"))
    q, cache, out = torch.zeros(2, 4, 40), torch.zeros(999, 4, 40), torch.zeros(2, 4, 32)
    seen = []

    def note(function, grid, *arguments, options, **constants):
        places = [a.data_ptr() if isinstance(a, torch.Tensor) else a for a in arguments]
        seen[-1].append((function.__name__, grid, places, constants, dict(options)))

    monkeypatch.setattr(module, "launch", note)
    for rows in ([(3, 1), (200, 1)], [(250, 1), (0, 1)]):
        plan = kernel.plan(metadata(rows, r.page_size, np.random.default_rng(0)), buffers)
        seen.append([])
        kernel.run(q, None, None, cache, plan, out)
    assert seen[0] == seen[1]
    assert [name for name, *_ in seen[0]] == ["latent_kernel", "join_kernel"]


@pytest.mark.parametrize("layout", ["standard", "latent"])
@pytest.mark.parametrize("kv_dtype", ["fp32", "fp8_e4m3"])
def test_keys_and_values_are_written_divided_by_their_scales(mended, layout, kv_dtype):
    heads, size = (1, 40) if layout == "latent" else (3, 16)
    r = KVWriteRequest(
        device=PROPS, layout=layout, kv_heads=heads, head_dim=size, dtype="fp32",
        kv_dtype=kv_dtype, page_size=4, kv_scales=True,
    )  # fmt: skip
    shape = (5, 4, size) if layout == "latent" else (5, 4, 2, heads, size)
    k, v = torch.randn(2, 4, heads, size).unbind()
    slots, scales = torch.tensor([3, -1, 19, 7]), torch.tensor([0.5, 2.0])
    caches = []
    for write in (kv_write(r), reference_write(r)):
        cache = torch.zeros(shape).to(torch_dtype(kv_dtype))
        write(k, v, cache, slots, scales)
        caches.append(cache.float())
    assert torch.equal(*caches)
    assert bool(caches[0].any())
