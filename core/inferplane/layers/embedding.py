"""Token embedding."""

from __future__ import annotations

from typing import Any

from inferplane.spec import EmbeddingKernel, Packed


class Embedding:
    """x_TC = kernel(ids_T)."""

    __slots__ = ("kernel", "packed")

    def __init__(self, kernel: EmbeddingKernel, packed: Packed) -> None:
        self.kernel = kernel
        self.packed = packed

    def __call__(self, ids_T: Any) -> Any:
        return self.kernel(ids_T, self.packed)
