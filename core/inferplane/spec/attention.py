"""Attention kernels: plan once a step and KV group, run once a layer.

Legend: T tokens of the step, B rows (requests), H query heads, K kv heads, D head size, P page.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch

    from .kv import KVLayout
    from .requests import AttentionRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionLimits:
    """The most that a step may hold, so that a kernel can size its buffers once."""

    max_rows: int
    max_tokens: int
    max_context: int


def _as_it_is(tensor: torch.Tensor) -> torch.Tensor:
    """Host memory that cannot be page-locked, or need not."""
    return tensor


@dataclass(slots=True, kw_only=True)
class AttentionMetadata:
    """One step of one KV group, integers on the host. Set by the runner; read-only for kernels.

    query_starts: int32 [B+1], rows lie one after the other in the token axis.
    context_lens: int32 [B], tokens in the cache after this step, the new ones included.
    page_table: int32 [B, pages], entry -1 where a page was freed (outside a window).
    slots: int64 [T], page * P + offset for every new token (int32 on devices without the
      capability `int64_index`).
    decodes: the first `decodes` rows have exactly one new token each.
    device_slots: `slots` on the device. padded: rows and tokens were padded for a graph.
    pin: a page-locked copy of a host tensor (`Device.pin`). Copies to the device from other memory
      may wait for all work before them, and the host with them.
    """

    query_starts: np.ndarray
    context_lens: np.ndarray
    page_table: np.ndarray
    slots: np.ndarray
    decodes: int
    device_slots: torch.Tensor
    padded: bool = False
    pin: Callable[[torch.Tensor], torch.Tensor] = _as_it_is

    @property
    def rows(self) -> int:
        return len(self.context_lens)


class AttentionKernel(ABC):
    """Base of attention kernels. Made by `factory(request)`, one for all layers of a group.

    Required: `plan` and `run`. The rest has defaults for a cache that is one dense tensor.
    """

    def __init__(self, request: AttentionRequest) -> None:
        self.request = request

    def buffers(self, limits: AttentionLimits, device: torch.device) -> Any:
        """(optional) Allocates what `plan` writes to, once, at fixed addresses."""
        return None

    @abstractmethod
    def plan(self, metadata: AttentionMetadata, buffers: Any) -> Any:
        """Once a step and group, on the host, outside graphs. May synchronise. Gives the plan."""

    @abstractmethod
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
        """Writes `out_THD` (the caller's, same dtype as q; D is the request's `out_dim`).
        Keys and values of this step are in the cache already; `k`, `v` are given for kernels that
        would rather not re-read them; in a LATENT group k is [T, 1, head_dim], v a view of its
        first value_dim elements. sinks fp32 [H], kv_scales fp32 [2] (keys, values): given where
        the request has them, so a kernel without the feature may leave the argument out.
        On the current stream, no synchronisation; capture-safe as the candidate's `capture` says.
        """

    def allocate(self, layout: KVLayout, pages: int, device: torch.device) -> Any:
        """(optional) The cache of one layer, for `pages` pages. Called by the engine only."""
        import torch

        from .torch_types import torch_dtype

        return torch.zeros((pages, *layout.shape), dtype=torch_dtype(layout.dtype), device=device)

    def copy_pages(self, cache: Any, source: Sequence[int], target: Sequence[int]) -> None:
        """(optional) Copies whole pages, in the order given, on the current stream."""
        for src, dst in zip(source, target, strict=True):
            cache[dst].copy_(cache[src])

    def export_pages(self, cache: Any, pages: Sequence[int]) -> torch.Tensor:
        """(optional) Pages in the wire form: [pages, P, 2, K, D] (latent: [pages, P, D]),
        contiguous, on the host.

        The default is right for `standard_layout` only.
        """
        exported: torch.Tensor = cache[self._index(cache, pages)].cpu().contiguous()
        return exported

    def import_pages(self, cache: Any, pages: Sequence[int], data: torch.Tensor) -> None:
        """(optional) The inverse of `export_pages`."""
        cache[self._index(cache, pages)] = data.to(cache.device)

    def _index(self, cache: torch.Tensor, pages: Sequence[int]) -> torch.Tensor:
        import torch

        from .torch_types import index_dtype

        dtype = index_dtype(self.request.device)
        return torch.tensor(list(pages), dtype=dtype).to(cache.device)
