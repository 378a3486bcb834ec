"""KV transfer between workers (provisional)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch


class KVTransfer(Protocol):
    """Moves pages in the canonical wire form (`AttentionKernel.export_pages`)."""

    def send(self, peer: str, key: str, pages: Sequence[torch.Tensor]) -> None:
        """Offers one tensor a layer under `key`. Returns when the memory may be reused."""

    def receive(self, peer: str, key: str, timeout_s: float) -> list[torch.Tensor]:
        """Raises TimeoutError when nothing came in time."""
