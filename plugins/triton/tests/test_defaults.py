"""Configurations without a file, and plans of steps: host arithmetic, no Triton."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from inferplane_triton import defaults, plan
from inferplane_triton.spaces import SPACES

from inferplane.engine.warm_up import batches
from inferplane.spec import (
    UNQUANTIZED,
    AttentionLimits,
    AttentionMetadata,
    AttentionRequest,
    DeviceProps,
    ExpertsRequest,
    GiB,
    GroupKind,
    LinearRequest,
    QuantScheme,
)

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=5)

DEVICE = DeviceProps(name="a device", profile="a", memory_bytes=GiB, dtypes={"bf16", "fp32"})


def request(shared: int, **fields) -> AttentionRequest:
    device = replace(DEVICE, details=(("shared_memory_bytes", str(shared)),))
    given = {"heads": 8, "kv_heads": 2, "head_dim": 128, "dtype": "bf16", "page_size": 16} | fields
    return AttentionRequest(device=device, kv_dtype=given["dtype"], scale=0.1, **given)


@pytest.mark.parametrize("shared", [48, 64, 99, 163, 227])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("head_dim", [32, 64, 80, 128, 256])
def test_defaults_are_in_the_space_and_fit_into_the_devices_shared_memory(shared, dtype, head_dim):
    asked = request(shared * 1024, dtype=dtype, head_dim=head_dim)
    size, each = plan.power_of_two(head_dim), 4 if dtype == "fp32" else 2
    for case in ("decode", "prefill"):
        found = getattr(defaults, case)(asked)
        space = SPACES["attention"][case]
        assert {n: v for n, v in found.items() if v not in space[n]} == {}
        held = found.get("queries", 0) * size * each
        beside = found["stages"] - (shared < 200)  # the tile in use waits in registers there
        held += beside * 2 * found["keys"] * size * each
        assert held <= shared * 1024


@pytest.mark.parametrize("shared", [64, 99, 163, 227])
@pytest.mark.parametrize(
    ("dtype", "kv"), [("bf16", "bf16"), ("bf16", "fp8_e4m3"), ("fp16", "fp16")]
)
def test_defaults_of_latent_attention_fit(shared, dtype, kv):
    asked = replace(
        request(shared * 1024, dtype=dtype, head_dim=576, value_dim=512, heads=128, kv_heads=1),
        kv_dtype=kv,
        kind=GroupKind.LATENT,
    )
    for case in ("latent decode", "latent prefill"):
        found = defaults.latent(asked, case)
        space = SPACES["attention"][case]
        assert {n: v for n, v in found.items() if v not in space[n]} == {}
        tiles = found["rows"] + found["keys"] * found["stages"]
        assert tiles * defaults.latent_bytes(asked) <= shared * 1024


SCHEMES = (
    UNQUANTIZED,
    QuantScheme.named(weight="int4", granularity="group", group=128),
    QuantScheme.named(weight="fp4_e2m1", granularity="group", group=16, scale="fp8_e4m3"),
    QuantScheme.named(weight="fp4_e2m1", granularity="group", group=32, scale="ue8m0"),
    QuantScheme.named(weight="fp8_e4m3", granularity="group", group=32, scale="ue8m0"),
    QuantScheme.named(weight="int8", activation="int8"),
)


@pytest.mark.parametrize("shared", [48, 64, 99, 227])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
def test_defaults_of_products_are_in_the_space_and_fit(shared, dtype, scheme):
    device = replace(DEVICE, details=(("shared_memory_bytes", str(shared * 1024)),))
    given = {"device": device, "dtype": dtype, "scheme": scheme}
    experts = ExpertsRequest(experts=8, top_k=2, hidden=1024, intermediate=512, **given)
    linear = LinearRequest(in_features=1024, out_features=512, **given)
    each = 1 if scheme.activation else 4 if dtype == "fp32" else 2
    stored = each if not scheme.quantized else 1 / scheme.packed
    for case in ("decode", "prefill"):
        for op, found in (
            ("linear", defaults.linear(linear, case)),
            ("moe.experts", defaults.experts(experts, case)),
        ):
            space = SPACES[op][case]
            assert {n: v for n, v in found.items() if v not in space[n]} == {}
            rows = found.get("block_m", defaults.FEW_TOKENS)
            held = found["stages"] * found["block_k"] * (rows * each + found["block_n"] * stored)
            assert held <= shared * 1024


def test_a_device_that_does_not_say_gets_a_small_default():
    asked = replace(request(0), device=DEVICE)
    assert defaults.shared_memory(asked.device) == 64 * 1024
    assert defaults.prefill(asked) == defaults.prefill(request(64 * 1024))


def metadata(new: list[int], before: int = 0) -> AttentionMetadata:
    rows, tokens = len(new), sum(new)
    return AttentionMetadata(
        query_starts=np.cumsum([0, *new]).astype(np.int32),
        context_lens=np.array(new, np.int32) + before,
        page_table=np.arange(rows * 3, dtype=np.int32).reshape(rows, 3),
        slots=np.zeros(tokens, np.int64),
        decodes=next((i for i, n in enumerate(new) if n > 1), rows),
        device_slots=torch.zeros(tokens, dtype=torch.int64),
    )


def test_tiles_cover_every_query_token_of_the_rows_that_are_not_decodes_once():
    meta = metadata([1, 1, 9, 4, 8])
    seen = []
    for row, first in plan.tiles_of(meta, 4).tolist():
        new = int(meta.query_starts[row + 1] - meta.query_starts[row])
        seen += [(row, token) for token in range(first, min(first + 4, new))]
    assert sorted(seen) == [(r, t) for r, n in ((2, 9), (3, 4), (4, 8)) for t in range(n)]


def test_a_step_of_decodes_has_no_tiles():
    assert len(plan.tiles_of(metadata([1, 1, 1]), 4)) == 0


def buffers(limits: AttentionLimits, scratch: tuple[int, int] = (0, 0)) -> plan.Buffers:
    return plan.allocate(limits, 16, 4, scratch, 1, torch.device("cpu"))


LIMITS = AttentionLimits(max_rows=5, max_tokens=40, max_context=48)


def test_a_plan_is_written_to_fixed_addresses_and_fits_at_the_limits():
    kept = buffers(LIMITS)
    places = [view.data_ptr() for view in (kept.starts, kept.lengths, kept.tiles, kept.table)]
    for new in ([40], [8] * 5, [1] * 5, [1, 36, 2, 1]):
        meta = metadata(new, before=2)
        tiles = plan.fill(kept, meta, 4)
        rows = meta.rows
        assert kept.widths[0] == 3
        assert kept.starts[: rows + 1].tolist() == meta.query_starts.tolist()
        assert kept.lengths[:rows].tolist() == meta.context_lens.tolist()
        assert kept.tiles[: 2 * tiles].view(-1, 2).tolist() == plan.tiles_of(meta, 4).tolist()
        assert kept.table[: 3 * rows].view(rows, 3).tolist() == meta.page_table.tolist()
    assert places == [v.data_ptr() for v in (kept.starts, kept.lengths, kept.tiles, kept.table)]


def test_parts_of_the_buffer_are_aligned_alike():
    kept = buffers(LIMITS)
    base = kept.numbers.data_ptr()
    views = kept.widths, kept.starts, kept.lengths, kept.tiles, kept.table
    assert {(view.data_ptr() - base) % 64 for view in views} == {0}


@pytest.mark.parametrize("rows", [1, 3, 64, 500])
@pytest.mark.parametrize("most", [1, 8, 64])
def test_splits_are_a_power_of_two_within_the_most_and_have_scratch(rows, most):
    splits = plan.splits_of(rows, 8, 528, most)
    assert splits & (splits - 1) == 0
    assert 1 <= splits <= most
    if splits > 1:
        assert rows * splits <= plan.scratch_rows(rows, 8, 528, most)


def test_few_rows_are_split_to_fill_the_device():
    assert plan.splits_of(1, 8, 528, 64) == 64
    assert plan.splits_of(64, 8, 528, 64) == 2
    assert plan.splits_of(500, 8, 528, 64) == 1


def test_a_plan_goes_to_the_device_in_one_copy_of_page_locked_memory():
    seen = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        seen.append(tensor)
        return tensor.clone()

    plan.fill(buffers(LIMITS), replace(metadata([1, 1, 9]), pin=pin), 4)
    assert len(seen) == 1


@pytest.mark.parametrize("kv_heads", [1, 2, 4, 8, 32])
@pytest.mark.parametrize("cores", [64, 132, 304])
@pytest.mark.parametrize("rows", [24, 64, 200, 256])
def test_the_warm_up_compiles_every_number_of_splits_that_a_step_may_have(rows, cores, kv_heads):
    def splits(count: int) -> int:
        return plan.splits_of(count, kv_heads, 4 * cores, 64)

    run = batches(rows, 8192, 4096, [(16, 100_000)])
    warm = {splits(batch.decodes) for batch in run if batch.decodes}
    assert {splits(count) for count in range(1, rows + 1)} <= warm
