"""Attention of AITER over the standard KV layout: keys and values are strided views of a page.

Sources, of ROCm/aiter at e404860: aiter/ops/triton/attention/unified_attention.py, k and v
[pages, P, K, D] of any strides; aiter/ops/mha.py, with a contiguous last axis;
op_tests/test_batch_prefill.py, "kernel ABI": it reads up to 256 page indices past the last.

Legend: T tokens, B rows, H query heads, K kv heads, D head size, P page.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from inferplane.spec import AttentionMetadata, AttentionRequest, PageTableAttention, PageTables

from .libraries import load_aiter

_READ_AHEAD = 256


class AiterUnified(PageTableAttention):
    """One call for all rows: AITER's Triton kernel, which splits long contexts of decodes."""

    def __init__(self, request: AttentionRequest) -> None:
        load_aiter()
        from aiter.ops.triton.attention.unified_attention import unified_attention

        super().__init__(request)
        self.unified: Any = unified_attention
        self.window = (request.window - 1, 0) if request.window else (-1, -1)

    def attend(
        self, q_THD: Any, keys: Any, values: Any, plan: Any, out_THD: Any, sinks_H: Any
    ) -> None:
        self.unified(
            q_THD,
            keys,
            values,
            out_THD,
            cu_seqlens_q=plan.starts_B1,
            max_seqlen_q=plan.longest_new,
            seqused_k=plan.lengths_B,
            max_seqlen_k=plan.longest,
            softmax_scale=self.request.scale,
            causal=True,
            window_size=self.window,
            block_table=plan.table_BW,
            softcap=self.request.softcap,
            q_descale=None,
            k_descale=None,
            v_descale=None,
            sinks=sinks_H,
        )


@dataclass(slots=True)
class Plan:
    """decodes: None for none. The rest: tokens and pages of rows after them, int32, starts with an
    end, pages with room to read ahead; longest new tokens and context."""

    decodes: PageTables | None
    first_token: int
    starts: torch.Tensor
    page_starts: torch.Tensor
    pages: torch.Tensor
    last_lengths: torch.Tensor
    longest_new: int
    longest: int


class AiterPrefill(AiterUnified):
    """Composable Kernel's paged prefill for rows with several new tokens; decodes as above."""

    def __init__(self, request: AttentionRequest) -> None:
        super().__init__(request)
        self.prefill: Any = load_aiter().mha_batch_prefill_func

    def plan(self, metadata: AttentionMetadata, buffers: Any) -> Any:
        tables = super().plan(metadata, buffers)
        cut, page = metadata.decodes, self.request.page_size
        if cut == metadata.rows:
            return tables
        lengths = torch.from_numpy(metadata.context_lens[cut:]).to(torch.int32)
        starts = torch.from_numpy(metadata.query_starts[cut:]).to(torch.int32)
        counts = torch.div(lengths + page - 1, page, rounding_mode="floor")
        table = torch.from_numpy(metadata.page_table[cut:]).to(torch.int32).clamp(min=0)
        used = table[torch.arange(table.shape[1]) < counts[:, None]]
        ends = torch.cat([counts.new_zeros(1), counts.cumsum(0, dtype=torch.int32)])
        device, pin, decodes = metadata.device_slots.device, metadata.pin, None
        if cut:
            decodes = PageTables(
                starts_B1=tables.starts_B1[: cut + 1],
                lengths_B=tables.lengths_B[:cut],
                table_BW=tables.table_BW[:cut],
                decodes=cut,
                longest_new=1,
                longest=tables.longest,
            )
        return Plan(
            decodes=decodes,
            first_token=int(starts[0]),
            starts=pin(starts - starts[0]).to(device, non_blocking=True),
            page_starts=pin(ends).to(device, non_blocking=True),
            pages=pin(F.pad(used, (0, _READ_AHEAD))).to(device, non_blocking=True),
            last_lengths=pin(lengths - (counts - 1) * page).to(device, non_blocking=True),
            longest_new=int(starts.diff().max()),
            longest=int(lengths.max()),
        )

    def attend(
        self, q_THD: Any, keys: Any, values: Any, plan: Any, out_THD: Any, sinks_H: Any
    ) -> None:
        if isinstance(plan, PageTables):
            super().attend(q_THD, keys, values, plan, out_THD, sinks_H)
            return
        cut = plan.first_token
        if plan.decodes is not None:
            super().attend(q_THD[:cut], keys, values, plan.decodes, out_THD[:cut], sinks_H)
        self.prefill(
            q_THD[cut:],
            keys,
            values,
            plan.starts,
            plan.page_starts,
            plan.pages,
            plan.longest_new,
            plan.longest,
            softmax_scale=self.request.scale,
            logits_soft_cap=self.request.softcap,
            causal=True,
            window_size=self.window,
            out=out_THD[cut:],
            kv_last_page_lens=plan.last_lengths,
            sink_ptr=sinks_H,
        )
