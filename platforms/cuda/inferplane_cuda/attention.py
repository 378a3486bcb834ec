"""Attention of optional libraries, over the standard KV layout: keys and values of a page are two
strided views of it, so no copy is made and every KV write for that layout works with them.

Legend: T tokens, B rows, H query heads, K kv heads, D head size, P page.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from inferplane.spec import (
    AttentionKernel,
    AttentionLimits,
    AttentionMetadata,
    AttentionRequest,
    PageTableAttention,
)
from inferplane.spec.torch_types import torch_dtype

_WORKSPACE_BYTES = 128 << 20  # what FlashInfer's documentation recommends
_GROUPED = 4  # query heads a kv head from which on its tensor-core kernel decodes


def _window(request: AttentionRequest) -> int:
    """Tokens before the query itself; -1 for all."""
    return request.window - 1 if request.window else -1


@dataclass(slots=True)
class Buffers:
    """workspace: shared by all wrappers, which run one after the other on one stream.
    graphs: one decode wrapper for each number of rows that a graph was captured with."""

    workspace: torch.Tensor
    limits: AttentionLimits | None
    wrappers: dict[str, Any] = field(default_factory=dict)
    graphs: dict[int, Any] = field(default_factory=dict)
    pages: torch.Tensor | None = None


@dataclass(slots=True)
class Plan:
    """The first `decoded` rows by `decode`, all after them by `prefill`."""

    decoded: int
    decode: Any
    prefill: Any


class FlashInfer(AttentionKernel):
    """FlashInfer's paged wrappers, one for decodes and one for the rest; back-end "fa2", which all
    GPUs from compute capability 8.0 on have.

    Source: flashinfer-python 0.7.2.post1 (flashinfer/decode.py, flashinfer/prefill.py); `plan`
    takes host tensors. In a captured step the wrapper's own buffers stay where they are.
    """

    def __init__(self, request: AttentionRequest) -> None:
        import flashinfer

        super().__init__(request)
        self.library: Any = flashinfer
        self.common = {
            "pos_encoding_mode": "NONE",
            "window_left": _window(request),
            "logits_soft_cap": request.softcap or None,
            "sm_scale": request.scale,
            "q_data_type": torch_dtype(request.dtype),
            "kv_data_type": torch_dtype(request.kv_dtype),
        }
        self.sizes = request.heads, request.kv_heads, request.head_dim, request.page_size
        self.grouped = request.heads // request.kv_heads >= _GROUPED

    def buffers(self, limits: AttentionLimits | None, device: torch.device) -> Buffers:
        workspace = torch.zeros(_WORKSPACE_BYTES, dtype=torch.uint8, device=device)
        return Buffers(workspace, limits)

    def plan(self, metadata: AttentionMetadata, buffers: Buffers | None) -> Plan:
        if buffers is None:
            buffers = self.buffers(None, metadata.device_slots.device)
        rows, decodes = metadata.rows, metadata.decodes
        plan = Plan(decodes, None, None)
        if decodes:
            starts, pages, last = self._pages(metadata, 0, decodes)
            whole = metadata.padded and decodes == rows and buffers.limits is not None
            plan.decode = self._graph(buffers, rows) if whole else self._wrapper(buffers, "Decode")
            plan.decode.plan(starts, pages, last, *self.sizes, **self.common)
        if decodes < rows:
            starts, pages, last = self._pages(metadata, decodes, rows)
            new = metadata.query_starts[decodes:] - metadata.query_starts[decodes]
            plan.prefill = self._wrapper(buffers, "Prefill")
            plan.prefill.plan(
                _int32(new), starts, pages, last, *self.sizes, causal=True, **self.common
            )
        return plan

    def _pages(
        self, metadata: AttentionMetadata, first: int, last: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(first page of each row, and the end; pages, row by row; tokens on each row's last)."""
        page = self.request.page_size
        lengths = np.maximum(metadata.context_lens[first:last], 1)  # padded rows read one token
        counts = -(-lengths // page)
        table = np.maximum(metadata.page_table[first:last], 0)  # freed pages lie outside the window
        used = table[np.arange(table.shape[1]) < counts[:, None]]
        starts = np.concatenate([[0], np.cumsum(counts)])
        return _int32(starts), _int32(used), _int32(lengths - (counts - 1) * page)

    def _wrapper(self, buffers: Buffers, kind: str) -> Any:
        if kind not in buffers.wrappers:
            options = {"use_tensor_cores": self.grouped} if kind == "Decode" else {}
            make = getattr(self.library, f"Batch{kind}WithPagedKVCacheWrapper")
            buffers.wrappers[kind] = make(buffers.workspace, "NHD", backend="fa2", **options)
        return buffers.wrappers[kind]

    def _graph(self, buffers: Buffers, rows: int) -> Any:
        """Keeps its metadata at fixed addresses; the list of pages is shared by all of them."""
        if rows not in buffers.graphs:
            assert buffers.limits is not None
            device, limits = buffers.workspace.device, buffers.limits
            if buffers.pages is None:
                most = limits.max_rows * -(-limits.max_context // self.request.page_size)
                buffers.pages = torch.zeros(most, dtype=torch.int32, device=device)
            buffers.graphs[rows] = self.library.BatchDecodeWithPagedKVCacheWrapper(
                buffers.workspace,
                "NHD",
                use_cuda_graph=True,
                use_tensor_cores=self.grouped,
                paged_kv_indptr_buffer=torch.zeros(rows + 1, dtype=torch.int32, device=device),
                paged_kv_indices_buffer=buffers.pages,
                paged_kv_last_page_len_buffer=torch.ones(rows, dtype=torch.int32, device=device),
                backend="fa2",
            )
        return buffers.graphs[rows]

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
        pages, cut = cache.unbind(2), plan.decoded
        if plan.decode is not None:
            plan.decode.run(q_THD[:cut].contiguous(), pages, out=out_THD[:cut])
        if plan.prefill is not None:
            plan.prefill.run(q_THD[cut:].contiguous(), pages, out=out_THD[cut:])


def _int32(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.int32))


class FlashAttention2(PageTableAttention):
    """`flash_attn_varlen_func` of flash-attn 2.8.4; k and v [pages, P, K, D], P a multiple of 256
    (csrc/flash_attn/flash_api.cpp). The causal mask is aligned to the end of the context."""

    def __init__(self, request: AttentionRequest) -> None:
        from flash_attn.flash_attn_interface import flash_attn_varlen_func

        super().__init__(request)
        self.call: Any = flash_attn_varlen_func
        self.options = _options(request)

    def plan(self, metadata: AttentionMetadata, buffers: Any) -> Any:
        tables = super().plan(metadata, buffers)
        return tables, F.pad(tables.lengths_B.cumsum(0, dtype=torch.int32), (1, 0))

    def attend(
        self, q_THD: Any, keys: Any, values: Any, plan: Any, out_THD: Any, sinks_H: Any
    ) -> None:
        tables, ends_B1 = plan
        most = tables.longest_new, tables.longest
        found = self.call(
            q_THD,
            keys,
            values,
            tables.starts_B1,
            ends_B1,
            *most,
            block_table=tables.table_BW,
            **self.options,
        )
        out_THD.copy_(found)


class FlashAttention3(PageTableAttention):
    """`flash_attn_with_kvcache` of flash_attn_3 3.0.0 (hopper/flash_attn_interface.py); pages of
    any size."""

    def __init__(self, request: AttentionRequest) -> None:
        from flash_attn_interface import flash_attn_with_kvcache

        super().__init__(request)
        self.call: Any = flash_attn_with_kvcache
        self.options = _options(request)

    def attend(
        self, q_THD: Any, keys: Any, values: Any, plan: Any, out_THD: Any, sinks_H: Any
    ) -> None:
        found = self.call(
            q_THD,
            keys,
            values,
            cache_seqlens=plan.lengths_B,
            page_table=plan.table_BW,
            cu_seqlens_q=plan.starts_B1,
            max_seqlen_q=plan.longest_new,
            **self.options,
        )
        out_THD.copy_(found)


def _options(request: AttentionRequest) -> dict[str, Any]:
    """What both versions call the same."""
    before = _window(request)
    return {
        "softmax_scale": request.scale,
        "causal": True,
        "window_size": (before, -1 if before < 0 else 0),
        "softcap": request.softcap,
    }
