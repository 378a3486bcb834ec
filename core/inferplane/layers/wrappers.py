"""A larger kernel in the place of a composition."""

from __future__ import annotations

from typing import Any

from inferplane.spec import AttentionSlot, Packed


class Block:
    """Called as the composition that it replaces; adds the slot (if it attends) and the weights."""

    __slots__ = ("kernel", "packed", "slot")

    def __init__(self, kernel: Any, packed: Packed, slot: AttentionSlot | None) -> None:
        self.kernel = kernel
        self.packed = packed
        self.slot = slot

    def __call__(self, *arguments: Any) -> Any:
        if self.slot is None:
            return self.kernel(*arguments, self.packed)
        return self.kernel(*arguments, self.slot, self.packed)
