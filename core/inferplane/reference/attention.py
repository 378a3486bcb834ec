"""Paged attention by the definition: gather the pages, mask, softmax in fp32.

Legend: T tokens, B rows, H query heads, K kv heads, G = H/K, D head size, P page, L context, N new.
"""

from __future__ import annotations

from typing import Any

import torch

from inferplane.spec import AttentionKernel, AttentionMetadata, AttentionRequest, GroupKind
from inferplane.spec.torch_types import index_dtype

from .wide import wide


class Attention(AttentionKernel):
    """Every semantic of the contract for full, window and latent groups, one row at a time."""

    def __init__(self, request: AttentionRequest) -> None:
        super().__init__(request)
        self.index = index_dtype(request.device)

    def plan(self, metadata: AttentionMetadata, buffers: Any) -> AttentionMetadata:
        return metadata

    def run(
        self,
        q_THD: torch.Tensor,
        k_TKD: torch.Tensor,
        v_TKD: torch.Tensor,
        cache: torch.Tensor,
        plan: AttentionMetadata,
        out_THD: torch.Tensor,
        sinks_H: torch.Tensor | None = None,
        kv_scales: torch.Tensor | None = None,
    ) -> None:
        page = self.request.page_size
        for row in range(plan.rows):
            first, last = int(plan.query_starts[row]), int(plan.query_starts[row + 1])
            if first == last:
                continue
            length = int(plan.context_lens[row])
            table = torch.as_tensor(plan.page_table[row, : -(-length // page)].copy())
            # a page outside the window may be gone (-1): what is read there is masked
            pages = table.clamp(min=0).to(cache.device, self.index)
            kept = cache.index_select(0, pages).flatten(0, 1)[:length]
            k_LKD, v_LKD = self._keys_and_values(kept, kv_scales)
            out_THD[first:last] = self.attend(q_THD[first:last], k_LKD, v_LKD, sinks_H).to(
                out_THD.dtype
            )

    def _keys_and_values(
        self, kept: torch.Tensor, kv_scales: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Out of [L, 2, K, D], or of latent vectors [L, D]."""
        if self.request.kind is GroupKind.LATENT:
            k_LKD = kept[:, None]
            v_LKD = k_LKD[..., : self.request.out_dim]
        else:
            k_LKD, v_LKD = kept[:, 0], kept[:, 1, :, : self.request.out_dim]
        if kv_scales is not None:
            k_LKD, v_LKD = wide(k_LKD) * kv_scales[0], wide(v_LKD) * kv_scales[1]
        return k_LKD, v_LKD

    def attend(
        self,
        q_NHD: torch.Tensor,
        k_LKD: torch.Tensor,
        v_LKD: torch.Tensor,
        sinks_H: torch.Tensor | None,
    ) -> torch.Tensor:
        """The last N of L tokens attend to all L, in fp32 (fp64 where q is)."""
        request, new, length = self.request, q_NHD.shape[0], k_LKD.shape[0]
        groups = q_NHD.shape[1] // k_LKD.shape[1]
        q = wide(q_NHD)
        k_HLD = wide(k_LKD).to(q.dtype).repeat_interleave(groups, dim=1).transpose(0, 1)
        v_HLD = wide(v_LKD).to(q.dtype).repeat_interleave(groups, dim=1).transpose(0, 1)
        scores_HNL = q.transpose(0, 1) @ k_HLD.transpose(1, 2) * request.scale
        if request.softcap:
            scores_HNL = request.softcap * torch.tanh(scores_HNL / request.softcap)
        allowed_NL = self.mask(new, length, q_NHD.device)
        scores_HNL = scores_HNL.masked_fill(~allowed_NL, float("-inf"))
        if sinks_H is not None:
            sink = sinks_H.to(q.dtype)[:, None, None].expand(-1, new, 1)
            scores_HNL = torch.cat([scores_HNL, sink], dim=-1)
        weights_HNL = torch.softmax(scores_HNL, dim=-1)[..., :length]
        v_HLD = v_HLD.masked_fill(~allowed_NL.any(0)[None, :, None], 0.0)
        return (weights_HNL @ v_HLD).transpose(0, 1)

    def mask(self, new: int, length: int, device: torch.device) -> torch.Tensor:
        """[N, L]: which positions each of the last N tokens reads."""
        at_N1 = torch.arange(length - new, length, device=device)[:, None]
        at_L = torch.arange(length, device=device)
        allowed = at_L <= at_N1 if self.request.causal else torch.ones_like(at_L <= at_N1)
        if self.request.window:
            allowed &= at_L > at_N1 - self.request.window
        return allowed
