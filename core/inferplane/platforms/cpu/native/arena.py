"""Memory for packed weights on pages of 2 MiB.

A decode step reads all weights, and a stream over pages of 4 KiB stops at the end of each: eight
rows with a matrix of 8 MiB took twice as long. Weights of 8 and 4 bits are often smaller than one
large page, so they lie one after the other in blocks.
"""

from __future__ import annotations

import functools
import threading
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

import torch

from .library import library

HUGE = 2 << 20
BLOCK = 64 << 20


class Arena:
    """Hands out parts of blocks. A block lives as long as a part of it."""

    def __init__(self) -> None:
        self.block = torch.empty(0, dtype=torch.uint8)
        self.lock = threading.Lock()

    def take(self, count: int) -> torch.Tensor:
        """uint8 [count] at a multiple of 64 bytes, not written yet."""
        size = -(-count // 64) * 64
        if size > BLOCK // 4:
            return self._fresh(size)[:count]
        with self.lock:
            if size > len(self.block):
                self.block = self._fresh(BLOCK)
            taken, self.block = self.block[:count], self.block[size:]
        return taken

    def _fresh(self, size: int) -> torch.Tensor:
        """Of whole large pages; what is not written to takes no memory. Mapped, not allocated: what
        stays must not lie between what loading needs for a moment."""
        size = -(-size // HUGE) * HUGE
        made = torch.frombuffer(_mapped(size + HUGE), dtype=torch.uint8)
        made = made[-made.data_ptr() % HUGE :][:size]
        library().ip_huge_pages(made.data_ptr(), size)
        return made


@functools.cache
def arena() -> Arena:
    """The process's: matrices of one model share blocks."""
    return Arena()


def _mapped(size: int) -> mmap:
    """Private, so that the kernel may use large pages."""
    return mmap(-1, size, flags=MAP_PRIVATE | MAP_ANONYMOUS)
