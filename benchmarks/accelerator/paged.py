"""A resolved attention kernel over a cache whose pages lie in no order, and the right results.

Legend: T tokens, B rows, H query heads, K kv heads, G = H/K, D head size, P page, S context.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .clock import random_of
from .job import Job, NotRun

RIGHT = 1e-2
"""The largest relative error of results in bf16."""
_QUERIES = 256  # whose scores are held at once


class Wrong(Exception):
    """A kernel's results are not those of attention."""


def request_of(plan: Any) -> Any:
    """The request of the model's attention layers."""
    from inferplane.spec import AttentionRequest

    for site in plan.root.walk():
        if isinstance(site.request, AttentionRequest):
            return site.request
    raise NotRun("the model has no layer of the op 'attention' on this device")


def ours(plan: Any, request: Any, tokens: int) -> Any:
    """The candidate that the product takes for so many tokens."""
    choice = plan.resolver.choose(request)
    for span, candidate in choice.ranges:
        if span.first <= tokens <= span.last:
            return candidate
    reasons = "; ".join(f"{r.candidate.name}: {r.reason}" for r in choice.rejected)
    raise NotRun(f"no attention kernel serves {request.describe()}: {reasons}")


def others(plan: Any, request: Any, taken: Any) -> Iterator[tuple[str, Any, str]]:
    """(name, candidate or None, why not) of the op's other kernels, references left out."""
    from inferplane.plugins.resolution import Pins, Resolver, is_reference

    for candidate in plan.catalog.candidates:
        if candidate.op != "attention" or is_reference(candidate) or candidate.name == taken.name:
            continue
        pinned = Resolver(plan.catalog.candidates, Pins((("attention", candidate.name),)))
        choice = pinned.choose(request)
        if choice.found:
            yield candidate.name, choice.candidate, ""
        else:
            mine = [r for r in choice.rejected if r.candidate.name == candidate.name]
            yield candidate.name, None, mine[0].reason if mine else "it serves another request"


@dataclass
class Batch:
    """rows of one length, all of them new tokens (a prompt) or the last one only (a decode).

    table: int32 [sets, B, pages]. q_STHD: queries of each set. wire: keys and values of all pages,
    [pages, P, 2, K, D].
    """

    request: Any
    rows: int
    context: int
    new: int
    table: Any
    q_STHD: Any
    wire: Any

    @property
    def sets(self) -> int:
        return len(self.table)

    @property
    def tokens(self) -> int:
        return self.rows * self.new


def draw(job: Job, device: Any, request: Any, rows: int, context: int, new: int) -> Batch:
    """Random queries, keys and values. As many sets as no cache of the device holds."""
    import numpy as np

    from inferplane.spec.torch_types import torch_dtype

    dtype = torch_dtype(request.dtype)
    width = -(-context // request.page_size)
    page = (request.page_size, 2, request.kv_heads, request.head_dim)
    set_bytes = rows * width * math.prod(page) * dtype.itemsize
    sets = max(1, min(64, -(-job.shapes.rotate_bytes // set_bytes)))
    pool = sets * rows * width
    order = np.random.default_rng(0).permutation(pool).astype(np.int32)
    shape = sets, rows * new, request.heads, request.head_dim
    return Batch(
        request=request,
        rows=rows,
        context=context,
        new=new,
        table=order.reshape(sets, rows, width),
        q_STHD=random_of(shape, dtype, device, 3),
        wire=random_of((pool, *page), dtype, device, 4),
    )


class Paged:
    """One kernel on a batch: a call for each set, with its plan and a result of its own."""

    def __init__(self, candidate: Any, batch: Batch, device: Any) -> None:
        import torch

        from inferplane.plugins.binding import make

        self.batch, self.device = batch, device
        self.kernel = make(candidate, batch.request)
        self.cache = self._cache(candidate)
        self.out_STHD = torch.empty_like(batch.q_STHD)
        self.calls = [self._call(at) for at in range(batch.sets)]

    def _cache(self, candidate: Any) -> Any:
        """The drawn keys and values in the kernel's own layout."""
        from inferplane.spec import standard_layout

        b = self.batch
        standard = standard_layout(b.request)
        layout = candidate.layout(b.request) if candidate.layout else standard
        if layout == standard:
            return b.wire
        cache = self.kernel.allocate(layout, len(b.wire), self.device.torch_device)
        self.kernel.import_pages(cache, list(range(len(b.wire))), b.wire.cpu())
        return cache

    def _call(self, at: int) -> Any:
        b = self.batch
        metadata = self._metadata(at)
        plan = self.kernel.plan(metadata, self.kernel.buffers(self._limits(), b.wire.device))
        heads = b.wire.view(-1, 2, b.request.kv_heads, b.request.head_dim)
        new = heads.index_select(0, metadata.device_slots)
        k_TKD, v_TKD = new[:, 0].contiguous(), new[:, 1].contiguous()
        q_THD, out_THD = b.q_STHD[at], self.out_STHD[at]
        return lambda: self.kernel.run(q_THD, k_TKD, v_TKD, self.cache, plan, out_THD)

    def _limits(self) -> Any:
        from inferplane.spec import AttentionLimits

        b = self.batch
        return AttentionLimits(max_rows=b.rows, max_tokens=b.tokens, max_context=b.context)

    def _metadata(self, at: int) -> Any:
        import numpy as np
        import torch

        from inferplane.spec import AttentionMetadata
        from inferplane.spec.torch_types import index_dtype

        b, page = self.batch, self.batch.request.page_size
        positions = np.tile(np.arange(b.context - b.new, b.context), (b.rows, 1))
        pages = np.take_along_axis(b.table[at], positions // page, axis=1)
        slots = (pages.astype(np.int64) * page + positions % page).ravel()
        index = index_dtype(b.request.device)
        sent = torch.from_numpy(slots).to(index)
        return AttentionMetadata(
            query_starts=(np.arange(b.rows + 1) * b.new).astype(np.int32),
            context_lens=np.full(b.rows, b.context, np.int32),
            page_table=b.table[at].copy(),
            slots=sent.numpy(),
            decodes=b.rows if b.new == 1 else 0,
            device_slots=sent.to(b.wire.device),
        )

    def error(self) -> float:
        """The largest relative error of a set, its result filled with NaN before. Raises Wrong
        where it is more than rounding."""
        import torch

        worst = 0.0
        for at, call in enumerate(self.calls[:2]):
            self.out_STHD[at].fill_(float("nan"))
            call()
            right_THD = right(self.batch, at)
            found_THD = self.out_STHD[at].float()
            norm = torch.linalg.vector_norm
            error = float(norm(found_THD - right_THD) / norm(right_THD))
            if not error <= RIGHT:  # NaN too
                raise Wrong(f"its results are wrong: the relative error is {error:.2g}")
            worst = max(worst, error)
        return worst


def dense_of(batch: Batch, at: int) -> tuple[Any, Any, Any]:
    """(q [B, H, T/B, D], k, v [B, K, S, D]), each contiguous, of one set."""
    import torch

    request, device = batch.request, batch.wire.device
    pages = torch.from_numpy(batch.table[at].ravel()).to(device)
    kv = batch.wire.index_select(0, pages)
    kv = kv.view(batch.rows, -1, 2, request.kv_heads, request.head_dim)[:, : batch.context]
    q = batch.q_STHD[at].view(batch.rows, batch.new, request.heads, request.head_dim)
    k, v = kv[:, :, 0].transpose(1, 2).contiguous(), kv[:, :, 1].transpose(1, 2).contiguous()
    return q.transpose(1, 2).contiguous(), k, v


def right(batch: Batch, at: int) -> Any:
    """fp32 [T, H, D] of one set, by the definition of attention, on the device."""
    import torch

    request, new = batch.request, batch.new
    q_BHTD, k_BKSD, v_BKSD = dense_of(batch, at)
    out = torch.empty(
        (batch.rows, new, request.heads, request.head_dim),
        dtype=torch.float32,
        device=q_BHTD.device,
    )
    groups = request.heads // request.kv_heads
    for row in range(batch.rows):
        k_KDS = k_BKSD[row].float().transpose(1, 2).contiguous()
        v_KSD = v_BKSD[row].float()
        for first in range(0, new, _QUERIES):
            q_HTD = q_BHTD[row, :, first : first + _QUERIES].float()
            count = q_HTD.shape[1]
            q_KND = q_HTD.reshape(request.kv_heads, groups * count, request.head_dim)
            scores = torch.bmm(q_KND, k_KDS) * request.scale
            scores = _causal(scores, groups, count, batch.context - new + first)
            made = torch.bmm(scores.softmax(-1), v_KSD)
            made = made.view(request.heads, count, request.head_dim)
            out[row, first : first + count] = made.transpose(0, 1)
    return out.view(-1, request.heads, request.head_dim)


def _causal(scores_KNS: Any, groups: int, count: int, first: int) -> Any:
    """Nothing of later keys. first: position of the first query. N: G heads of `count` queries."""
    import torch

    keys = scores_KNS.shape[-1]
    after = torch.arange(keys)[None, :] > torch.arange(first, first + count)[:, None]
    if not after.any():
        return scores_KNS
    mask = torch.zeros(after.shape).masked_fill(after, float("-inf")).repeat(groups, 1)
    return scores_KNS + mask.to(scores_KNS.device)
