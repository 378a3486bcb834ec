"""Page tables of drawn batches, and caches of any layout.

Legend: B rows, T tokens, P page. A row is (tokens before, new tokens).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from inferplane.plugins.binding import make
from inferplane.reference.attention import Attention as ReferenceAttention
from inferplane.spec import (
    AttentionKernel,
    AttentionMetadata,
    AttentionRequest,
    Candidate,
    GroupKind,
    KVLayout,
    KVWriteRequest,
    standard_layout,
)
from inferplane.spec.torch_types import torch_dtype

from .numbers import Numbers
from .problem import Tensors
from .target import Target
from .tensors import bits_of

Style = Literal["runs", "scattered", "shared"]
Row = tuple[int, int]


@dataclass
class Pages:
    """Host arrays as in `AttentionMetadata`, and the number of pages in the pool."""

    rows: tuple[Row, ...]
    page: int
    table: np.ndarray
    slots: np.ndarray
    pool: int

    @property
    def starts(self) -> np.ndarray:
        return np.cumsum([0, *(new for _, new in self.rows)]).astype(np.int32)

    @property
    def lengths(self) -> np.ndarray:
        return np.array([before + new for before, new in self.rows], dtype=np.int32)

    @property
    def positions(self) -> np.ndarray:
        """int64 [T]: of every new token."""
        return np.concatenate([np.arange(b, b + n) for b, n in self.rows]).astype(np.int64)

    def metadata(self, target: Target) -> AttentionMetadata:
        return self.on(target.index(self.slots))

    def on(self, device_slots: torch.Tensor) -> AttentionMetadata:
        """As a runner makes it. device_slots: `slots` on the device, in its index type."""
        index = np.int64 if device_slots.dtype == torch.int64 else np.int32
        return AttentionMetadata(
            query_starts=self.starts,
            context_lens=self.lengths,
            page_table=self.table.copy(),
            slots=self.slots.astype(index),
            decodes=next((i for i, (_, n) in enumerate(self.rows) if n > 1), len(self.rows)),
            device_slots=device_slots,
        )

    def held(self) -> torch.Tensor:
        """bool [pages, P]: cells that hold a token of some row, the new ones included."""
        cells = np.zeros((self.pool, self.page), dtype=bool)
        for row, (before, new) in enumerate(self.rows):
            for at in range(before + new):
                page = self.table[row, at // self.page]
                if page >= 0:
                    cells[page, at % self.page] = True
        return torch.from_numpy(cells)

    def written(self) -> torch.Tensor:
        """bool [pages, P]: cells of the new tokens."""
        cells = np.zeros(self.pool * self.page, dtype=bool)
        cells[self.slots[self.slots >= 0]] = True
        return torch.from_numpy(cells.reshape(self.pool, self.page))


def lay_out(
    rows: Sequence[Row], page: int, style: Style, window: int, rng: np.random.Generator
) -> Pages:
    """runs: each row's pages lie one after the other. scattered: in no order, and columns after a
    row's end name pages of others. shared: all rows have their first full pages in common.

    With a window, pages that no later query reads are gone (-1).
    """
    needed = [-(-(before + new) // page) for before, new in rows]
    pool = sum(needed) + 3
    order = np.arange(1, pool, dtype=np.int32)
    if style == "scattered":
        order = rng.permutation(order).astype(np.int32)
    table = np.full((len(rows), max(needed)), -1, dtype=np.int32)
    if style == "scattered":
        table[:] = rng.choice(order, table.shape)
    first = 0
    for row, ((before, _), count) in enumerate(zip(rows, needed, strict=True)):
        gone = max(0, before - window + 1) // page if window else 0
        table[row, :gone] = -1
        table[row, gone:count] = order[first + gone : first + count]
        first += count
    if style == "shared":
        common = min(before for before, _ in rows) // page
        for column in table.T[:common]:
            column[column >= 0] = column.max()
    slots = []
    for row, (before, new) in enumerate(rows):
        at = np.arange(before, before + new)
        slots.append(table[row, at // page].astype(np.int64) * page + at % page)
    return Pages(tuple(rows), page, table, np.concatenate(slots), pool)


KV_SCALES = (0.5, 4.0)
"""Of keys and values, far apart, and powers of two: a value that was read from a cache of 8 bits is
the one that was written, whichever of the two a kernel takes."""


def filled(request: AttentionRequest, pages: Pages, draw: Numbers) -> tuple[torch.Tensor, Tensors]:
    """(a cache in the wire form with a key and value wherever there is a page, what else a kernel
    is given: keys, values and scales). In a latent group there are no values."""
    latent, dim = request.kind is GroupKind.LATENT, request.head_dim
    vectors = (1,) if latent else (2, request.kv_heads)
    size = (pages.pool, request.page_size, *vectors, dim)
    kind = torch_dtype(request.kv_dtype)
    wire = draw.normal(*size, dtype="fp32").to(kind)
    scales = torch.tensor(KV_SCALES[:1] * 2 if latent else KV_SCALES)
    factors = scales.view(2, 1, 1)[: vectors[0]] if request.kv_scales else torch.ones(1)
    new = draw.normal(len(pages.slots), *vectors, dim, dtype=request.dtype).float()
    kept = (new.view(-1, vectors[0], request.kv_heads, dim) / factors).to(kind)
    new = (kept.float() * factors).to(torch_dtype(request.dtype))
    flat = wire.view(bits_of(wire)).view(-1, *vectors, dim)
    flat[torch.from_numpy(pages.slots)] = kept.view(len(new), *vectors, dim).view(bits_of(wire))
    given = {"k_TKD": new[:, 0].contiguous()}
    if not latent:
        given["v_TKD"] = new[:, 1].contiguous()
    if request.kv_scales:
        given["kv_scales"] = scales
    return (wire[:, :, 0] if latent else wire).contiguous(), given


class Cache:
    """One layer's cache in some layout, filled and read in the wire form."""

    def __init__(
        self, kernel: AttentionKernel, layout: KVLayout, wire: torch.Tensor, device: torch.device
    ) -> None:
        self.kernel, self.pages = kernel, list(range(wire.shape[0]))
        self.tensor: Any = kernel.allocate(layout, len(self.pages), device)
        self.fill(wire)

    def fill(self, wire: torch.Tensor) -> None:
        self.kernel.import_pages(self.tensor, self.pages, wire)

    def read(self) -> torch.Tensor:
        return self.kernel.export_pages(self.tensor, self.pages)


def layout_of(candidate: Candidate, request: AttentionRequest) -> KVLayout:
    return candidate.layout(request) if candidate.layout else standard_layout(request)


def owner_of_layout(
    target: Target, request: KVWriteRequest
) -> tuple[AttentionKernel, KVLayout] | None:
    """An attention kernel whose cache a KV write is asked for, with the layout; None if there is
    none. The standard and the latent layout need no platform's kernel."""
    asked = attention_request(target, request)
    if request.layout in ("standard", "latent"):
        return ReferenceAttention(asked), standard_layout(asked)
    for candidate in target.offers("attention"):
        if candidate.layout and candidate.supports(asked).ok:
            layout = candidate.layout(asked)
            if layout.name == request.layout:
                return make(candidate, asked), layout
    return None


def attention_request(target: Target, request: KVWriteRequest) -> AttentionRequest:
    """Attention over the cache that is written to."""
    return AttentionRequest(
        device=target.props,
        heads=request.kv_heads,
        kv_heads=request.kv_heads,
        head_dim=request.head_dim,
        dtype=request.dtype,
        kv_dtype=request.kv_dtype,
        page_size=request.page_size,
        scale=request.head_dim**-0.5,
        kind=GroupKind.LATENT if request.layout == "latent" else GroupKind.FULL,
        value_dim=request.head_dim // 2 if request.layout == "latent" else 0,
    )
