"""Paged attention against the reference, over drawn rows and page tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inferplane_sim.attention import PagedAttention
from inferplane_sim.graphs import Graphs

from inferplane.reference.attention import Attention
from inferplane.spec import (
    AttentionLimits,
    AttentionMetadata,
    AttentionRequest,
    GraphRequest,
    GroupKind,
)
from inferplane.spec.torch_types import torch_dtype

pytestmark = pytest.mark.ci(platforms=["sim"], suite="plugins", est_seconds=12)

PAGE = 128
TOLERANCE = {"fp32": 1e-5, "bf16": 2e-2, "fp16": 2e-3}  # outputs are below 4 in size
Rows = list[tuple[int, int]]  # (tokens before, new tokens)


def make_request(props: Any, dtype: str = "fp32", window: int = 0) -> AttentionRequest:
    return AttentionRequest(
        device=props,
        heads=4,
        kv_heads=2,
        head_dim=16,
        dtype=dtype,
        kv_dtype=dtype,
        page_size=PAGE,
        scale=0.25,
        kind=GroupKind.WINDOW if window else GroupKind.FULL,
        window=window,
    )


def table_of(rows: Rows, window: int, seed: int) -> np.ndarray:
    """Pages in any order; those that a window has passed are -1. The last page stays unused."""
    needed = [-(-(before + new) // PAGE) for before, new in rows]
    order = np.random.default_rng(seed).permutation(sum(needed)).astype(np.int32)
    table, first = np.full((len(rows), max(needed)), -1, dtype=np.int32), 0
    for row, ((before, _), count) in enumerate(zip(rows, needed, strict=True)):
        gone = max(0, before - window + 1) // PAGE if window else 0
        table[row, gone:count] = order[first + gone : first + count]
        first += count
    return table


class Step:
    """Inputs of one step, on the host."""

    def __init__(self, rows: Rows, dtype: str, window: int = 0, seed: int = 0) -> None:
        self.table = table_of(rows, window, seed)
        self.starts = np.cumsum([0, *(new for _, new in rows)]).astype(np.int32)
        self.lengths = np.array([before + new for before, new in rows], dtype=np.int32)
        generator = torch.Generator().manual_seed(seed)
        tokens, kind = int(self.starts[-1]), torch_dtype(dtype)
        self.q = torch.randn(tokens, 4, 16, generator=generator).to(kind)
        pages = int(self.table.max()) + 2
        self.cache = torch.randn(pages, PAGE, 2, 2, 16, generator=generator).to(kind)
        self.decodes = sum(new == 1 for _, new in rows)

    def metadata(self, device: str) -> AttentionMetadata:
        slots = np.zeros(int(self.starts[-1]), dtype=np.int32)
        return AttentionMetadata(
            query_starts=self.starts,
            context_lens=self.lengths,
            page_table=self.table,
            slots=slots,
            decodes=self.decodes,
            device_slots=torch.from_numpy(slots).to(device),
        )


def run(kernel: Any, step: Step, device: str, buffers: Any = None) -> torch.Tensor:
    q, cache = step.q.to(device), step.cache.to(device)
    out = torch.empty_like(q)
    plan = kernel.plan(step.metadata(device), buffers)
    kernel.run(q, q[:, :2], q[:, :2], cache, plan, out)
    return out.cpu()


def compare(props: Any, step: Step, dtype: str, window: int = 0, buffers: Any = None) -> None:
    request = make_request(props, dtype, window)
    given = run(PagedAttention(request), step, "sim", buffers)
    expected = run(Attention(request), step, "cpu")
    error = (given.float() - expected.float()).abs().max()
    assert error < TOLERANCE[dtype]


row = st.tuples(st.sampled_from([0, 1, 126, 127, 128, 129, 300]), st.sampled_from([1, 1, 2, 129]))


@given(
    rows=st.lists(row, min_size=1, max_size=3),
    dtype=st.sampled_from(sorted(TOLERANCE)),
    window=st.sampled_from([0, 1, 127, 128, 130]),
    seed=st.integers(0, 9),
)
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_rows_of_any_length_agree_with_the_reference(sim, rows, dtype, window, seed):
    compare(sim.boards[0].props, Step(rows, dtype, window, seed), dtype, window)


def test_buffers_are_written_again_by_each_plan(sim):
    props = sim.boards[0].props
    limits = AttentionLimits(max_rows=4, max_tokens=64, max_context=512)
    buffers = PagedAttention(make_request(props)).buffers(limits, torch.device("sim", 0))
    address = buffers.table.data_ptr()
    compare(props, Step([(200, 1), (3, 5), (0, 2), (500, 12)], "fp32"), "fp32", buffers=buffers)
    compare(props, Step([(7, 1)], "fp32", seed=1), "fp32", buffers=buffers)
    assert buffers.table.data_ptr() == address


def test_a_captured_run_reads_the_plan_of_its_replay(start):
    props = start(graph_pool_mb=1).boards[0].props
    request = make_request(props)
    kernel = PagedAttention(request)
    limits = AttentionLimits(max_rows=4, max_tokens=64, max_context=512)
    buffers = kernel.buffers(limits, torch.device("sim", 0))
    first, second = Step([(9, 1), (140, 1)], "fp32"), Step([(130, 1), (2, 1)], "fp32", seed=4)
    second.cache = first.cache = first.cache[:3]
    q, cache = first.q.to("sim"), first.cache.to("sim")
    out = torch.empty_like(q)
    plan = kernel.plan(first.metadata("sim"), buffers)
    torch.sim.synchronize()
    graph = Graphs(GraphRequest(device=props)).capture(
        lambda: kernel.run(q, q[:, :2], q[:, :2], cache, plan, out)
    )
    for step in (first, second):
        kernel.plan(step.metadata("sim"), buffers)
        q.copy_(step.q)
        graph.replay()
        assert torch.allclose(out.cpu(), run(Attention(request), step, "cpu"), atol=1e-5)


def test_pages_are_exported_and_imported_with_narrow_indices(sim, values):
    kernel = PagedAttention(make_request(sim.boards[0].props))
    cache = values(4, PAGE, 2, 2, 16).to("sim")
    before = cache.cpu()
    data = kernel.export_pages(cache, [3, 1])
    assert torch.equal(data, before[[3, 1]])
    kernel.import_pages(cache, [0, 2], data)
    kernel.copy_pages(cache, [3], [1])
    assert torch.equal(cache.cpu(), before[[3, 3, 1, 3]])
