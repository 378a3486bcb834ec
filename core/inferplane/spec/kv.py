"""KV cache: the layout of a page, and the groups of layers that share a page table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from .dtypes import size_in_bytes

if TYPE_CHECKING:
    from .requests import AttentionRequest


class GroupKind(Enum):
    """How tokens of a group may be kept and reused."""

    FULL = "full"  # every earlier token is read: reuse needs every page of the prefix
    WINDOW = "window"  # only the last `window` tokens are read: older pages may be freed
    LATENT = "latent"  # as FULL, one compressed vector a token (MLA)
    STATE = "state"  # one running state a request (Mamba, linear attention), no page a token


@dataclass(frozen=True, slots=True, kw_only=True)
class KVLayout:
    """How one layer's cache lies in memory. Pure data, published by an attention candidate.

    name: KV-write candidates answer for a layout by this name.
    page_size: tokens a page. dtype: dtype name of an element.
    shape: of one page. strides: in elements, of one page; empty means contiguous.
    page_bytes: bytes of one page of one layer, scales and padding included.
    """

    name: str
    page_size: int
    dtype: str
    shape: tuple[int, ...]
    page_bytes: int
    strides: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KVGroup:
    """Layers with one page table. index: position in every per-group list of a step.

    window: tokens read, for WINDOW groups; 0 otherwise. layers: model layer indices.
    """

    index: int
    name: str
    kind: GroupKind
    layers: tuple[int, ...]
    layout: KVLayout
    window: int = 0

    @property
    def page_size(self) -> int:
        return self.layout.page_size

    @property
    def page_bytes(self) -> int:
        return self.layout.page_bytes * len(self.layers)


def standard_layout(request: AttentionRequest) -> KVLayout:
    """The layout of a candidate that names none, and the wire form of `export_pages`.

    One page is [page_size, 2, kv_heads, head_dim], contiguous: keys at [:, 0], values at [:, 1]; in
    a LATENT group, whose layout is named "latent", it is [page_size, head_dim].
    """
    latent = request.kind is GroupKind.LATENT
    shape: tuple[int, ...] = (request.page_size, 2, request.kv_heads, request.head_dim)
    if latent:
        shape = (request.page_size, request.head_dim)
    return KVLayout(
        name="latent" if latent else "standard",
        page_size=request.page_size,
        dtype=request.kv_dtype,
        shape=shape,
        page_bytes=size_in_bytes(shape, request.kv_dtype),
    )
