"""Paged attention, standard layout: gathers the pages that a row reads, arithmetic in fp32.

The plan lies in device memory at a fixed address, so that a captured run reads the plan of the
step that replays it.

Legend: T tokens, B rows, N new tokens of a row, L context, H query heads, K kv heads, D head size,
P page, W pages a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from inferplane.spec import AttentionKernel, AttentionLimits, AttentionMetadata

from .launch import common_board, launch, raw


@dataclass(slots=True)
class Plan:
    """table: int32, [B, W, starts B+1, lengths B, pages B*W] one after the other."""

    table: torch.Tensor


class PagedAttention(AttentionKernel):
    def buffers(self, limits: AttentionLimits, device: torch.device) -> Plan:
        """Room for the plan of the largest step."""
        width = -(-limits.max_context // self.request.page_size)
        size = 3 + limits.max_rows * (width + 2)
        return Plan(torch.zeros(size, dtype=torch.int32, device=device))

    def plan(self, metadata: AttentionMetadata, buffers: Plan | None) -> Plan:
        pages = metadata.page_table
        host = np.concatenate(
            [
                np.array(pages.shape, dtype=np.int32),
                metadata.query_starts.astype(np.int32),
                metadata.context_lens.astype(np.int32),
                pages.astype(np.int32).ravel(),
            ]
        )
        if buffers is None:
            device = metadata.device_slots.device
            buffers = Plan(torch.empty(len(host), dtype=torch.int32, device=device))
        buffers.table[: len(host)].copy_(metadata.pin(torch.from_numpy(host)), non_blocking=True)
        return buffers

    def run(
        self,
        q_THD: torch.Tensor,
        k_TKD: torch.Tensor,
        v_TKD: torch.Tensor,
        cache: torch.Tensor,
        plan: Plan,
        out_THD: torch.Tensor,
        sinks_H: torch.Tensor | None = None,
        kv_scales: torch.Tensor | None = None,
    ) -> None:
        name = "sim.attention"
        board = common_board(name, q_THD, cache, plan.table, out_THD)
        q, pages, table, out = raw(q_THD), raw(cache), raw(plan.table), raw(out_THD)
        launch(
            board,
            name,
            lambda: self._rows(q, pages, table.numpy(), out),
            (q_THD, k_TKD, v_TKD),
            (out_THD,),
        )

    def _rows(self, q: torch.Tensor, pages: torch.Tensor, plan: np.ndarray, out: Any) -> None:
        """On the host tensors, when the work runs."""
        rows, width = int(plan[0]), int(plan[1])
        starts = plan[2 : 3 + rows].tolist()
        lengths = plan[3 + rows : 3 + 2 * rows].tolist()
        table = plan[3 + 2 * rows :][: rows * width].reshape(rows, width)
        for row in range(rows):
            first, last = starts[row], starts[row + 1]
            if first < last:
                out[first:last] = self._attend(q[first:last], pages, table[row], lengths[row])

    def _attend(
        self, q_NHD: torch.Tensor, pages: torch.Tensor, table: np.ndarray, length: int
    ) -> torch.Tensor:
        """[N, H, D]: the last N of `length` tokens attend to those that the window leaves."""
        page, window, new = self.request.page_size, self.request.window, q_NHD.shape[0]
        begin = max(0, length - new - window + 1) if window else 0
        low, high = begin // page, -(-length // page)
        used = torch.from_numpy(table[low:high].astype(np.int64))
        kv_L2KD = pages[used].flatten(0, 1)[begin - low * page : length - low * page].float()
        k_KLD, v_KLD = kv_L2KD.permute(1, 2, 0, 3)
        mask_NL = None
        if new > 1:
            at_N1 = torch.arange(length - new, length)[:, None]
            at_L = torch.arange(begin, length)
            mask_NL = at_L <= at_N1
            if window:
                mask_NL &= at_L > at_N1 - window
        out = F.scaled_dot_product_attention(
            q_NHD.float().transpose(0, 1)[None],
            k_KLD[None],
            v_KLD[None],
            attn_mask=mask_NL,
            scale=self.request.scale,
            enable_gqa=True,
        )
        return out[0].transpose(0, 1)
