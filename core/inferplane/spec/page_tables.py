"""A base for attention kernels that read a padded page table on the device.

Legend: T tokens, B rows, W pages a row.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .attention import AttentionKernel, AttentionLimits, AttentionMetadata

if TYPE_CHECKING:
    import torch


@dataclass(slots=True, kw_only=True)
class PageTables:
    """One step on the device, int32, at fixed addresses if the engine gave buffers.

    starts_B1: first token of each row, and the end. lengths_B: tokens in the cache, the new ones
    included. table_BW: pages; 0 where the host's table has none. decodes: as in
    `AttentionMetadata`. longest_new, longest: upper bounds over all rows, on the host; of a padded
    step, over all steps that a graph may replay.
    """

    starts_B1: torch.Tensor
    lengths_B: torch.Tensor
    table_BW: torch.Tensor
    decodes: int
    longest_new: int
    longest: int


class PageTableAttention(AttentionKernel):
    """(optional) Over the standard layout: `plan` gives `PageTables`, and `run` cuts a cache into
    keys and values, strided views [pages, P, K, D]. A kernel has `attend` to write."""

    def buffers(self, limits: AttentionLimits, device: torch.device) -> Any:
        """Room for the largest step: (starts and lengths, one after the other; table)."""
        import torch

        pages = -(-limits.max_context // self.request.page_size)
        rows = limits.max_rows
        integers = torch.zeros(2 * rows + 1, dtype=torch.int32, device=device)
        return integers, torch.zeros((rows, pages), dtype=torch.int32, device=device)

    def plan(self, metadata: AttentionMetadata, buffers: Any) -> PageTables:
        import numpy as np
        import torch

        rows, width = metadata.page_table.shape
        if buffers is None:
            limits = AttentionLimits(
                max_rows=rows, max_tokens=1, max_context=width * self.request.page_size
            )
            buffers = self.buffers(limits, metadata.device_slots.device)
        integers, table = buffers
        most = (len(integers) - 1) // 2
        pages = torch.from_numpy(np.maximum(metadata.page_table, 0).astype(np.int32))
        pin = metadata.pin
        table[:rows, :width].copy_(pin(pages), non_blocking=True)
        starts, lengths = integers[: rows + 1], integers[most + 1 : most + 1 + rows]
        for target, numbers in ((starts, metadata.query_starts), (lengths, metadata.context_lens)):
            target.copy_(pin(torch.from_numpy(numbers.astype(np.int32))), non_blocking=True)
        padded = metadata.padded
        return PageTables(
            starts_B1=starts,
            lengths_B=lengths,
            table_BW=table[:rows] if padded else table[:rows, :width],
            decodes=metadata.decodes,
            longest_new=int(np.diff(metadata.query_starts).max(initial=1)),
            longest=table.shape[1] * self.request.page_size
            if padded
            else int(metadata.context_lens.max(initial=1)),
        )

    def run(
        self,
        q_THD: torch.Tensor,
        k_TKD: torch.Tensor,
        v_TKD: torch.Tensor,
        cache: Any,
        plan: Any,
        out_THD: torch.Tensor,
        sinks_H: torch.Tensor | None = None,
        kv_scales: torch.Tensor | None = None,
    ) -> None:
        keys, values = cache.unbind(2)
        self.attend(q_THD, keys, values, plan, out_THD, sinks_H)

    @abstractmethod
    def attend(
        self,
        q_THD: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        plan: Any,
        out_THD: torch.Tensor,
        sinks_H: torch.Tensor | None,
    ) -> None:
        """Writes `out_THD`, as `AttentionKernel.run`."""
