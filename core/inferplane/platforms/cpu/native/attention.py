"""Attention: single new tokens with a compiled paged kernel, longer pieces as `FlashAttention`.

Legend: B rows with one new token, H heads, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from inferplane.spec import AttentionMetadata, AttentionRequest, KVLayout

from ..attention import FlashAttention, share
from ..attention import Plan as FlashPlan
from .library import library

_PART = 256  # tokens of context below which a piece of work is not cut further


@dataclass(slots=True)
class Plan(FlashPlan):
    """rows and shared: of longer pieces. decode: arguments of the call for single tokens, none
    if empty; they point into `arrays`, which must live as long."""

    decode: tuple[Any, ...] = ()
    arrays: list[Any] = field(default_factory=list)


class NativeAttention(FlashAttention):
    def __init__(self, request: AttentionRequest) -> None:
        super().__init__(request)
        self.call = library().ip_decode
        self.half = request.dtype == "bf16"

    def allocate(self, layout: KVLayout, pages: int, device: torch.device) -> torch.Tensor:
        cache = super().allocate(layout, pages, device)
        library().ip_huge_pages(cache.data_ptr(), cache.nbytes)
        return cache

    def plan(self, metadata: AttentionMetadata, buffers: Any) -> Plan:
        counts = np.diff(metadata.query_starts)
        single = np.flatnonzero(counts == 1)
        starts, lengths = metadata.query_starts.tolist(), metadata.context_lens.tolist()
        rows = [
            self._row(starts[i], starts[i + 1], lengths[i], metadata.page_table[i])
            for i in np.flatnonzero(counts > 1).tolist()
        ]
        plan = Plan(rows, share(rows))
        if len(single):
            self._plan_single(metadata, single, plan)
        return plan

    def _plan_single(self, metadata: AttentionMetadata, single: np.ndarray, plan: Plan) -> None:
        request, rows = self.request, len(single)
        every = rows == metadata.rows
        table = np.ascontiguousarray(
            metadata.page_table if every else metadata.page_table[single], dtype=np.int32
        )
        last = np.ascontiguousarray(metadata.context_lens[single], dtype=np.int32)
        first = np.maximum(last - request.window, 0) if request.window else np.zeros_like(last)
        tokens = np.ascontiguousarray(metadata.query_starts[single], dtype=np.int32)
        parts = self._parts(rows, int((last - first).max()))
        size = rows * request.heads * parts * (request.head_dim + 2) if parts > 1 else 0
        scratch = torch.empty(size, dtype=torch.float32)
        plan.arrays = [scratch, table, tokens, first, last]
        plan.decode = (
            scratch.data_ptr(),
            *(array.ctypes.data for array in (table, tokens, first, last)),
            rows,
            table.shape[1],
            request.page_size,
            request.heads,
            request.kv_heads,
            request.head_dim,
            parts,
            request.scale,
            self.half,
        )

    def _parts(self, rows: int, longest: int) -> int:
        """Into how many parts contexts are cut, so that all threads have work."""
        wanted = -(-4 * torch.get_num_threads() // (rows * self.request.kv_heads))
        return max(1, min(wanted, longest // _PART))

    def run(
        self,
        q_THD: torch.Tensor,
        k_TKD: torch.Tensor,
        v_TKD: torch.Tensor,
        cache: torch.Tensor,
        plan: Any,
        out_THD: torch.Tensor,
        sinks_H: torch.Tensor | None = None,
        kv_scales: torch.Tensor | None = None,
    ) -> None:
        if plan.decode:
            if q_THD.stride(1) != self.request.head_dim or q_THD.stride(2) != 1:
                q_THD = q_THD.contiguous()
            self.call(
                q_THD.data_ptr(),
                q_THD.stride(0),
                cache.data_ptr(),
                out_THD.data_ptr(),
                None if sinks_H is None else sinks_H.data_ptr(),
                *plan.decode,
            )
        if plan.rows:
            super().run(q_THD, k_TKD, v_TKD, cache, plan, out_THD, sinks_H)
