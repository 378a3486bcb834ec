"""The one place where kernels are launched, so that tests can see what a launch is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LOG2E = 1.4426950408889634


def launch(
    kernel: Any,
    grid: tuple[int, ...],
    *arguments: Any,
    options: Mapping[str, int],
    **constants: Any,
) -> None:
    """Queues `kernel` on the current stream; an empty grid is nothing to do.

    options: num_warps and num_stages. constants: the kernel's `tl.constexpr` arguments.
    """
    if 0 not in grid:
        kernel[grid](*arguments, **constants, **options)


def power_of_two(count: int) -> int:
    """The smallest power of two that is not below `count`."""
    return 1 << max(0, count - 1).bit_length()


def between(low: int, value: int, high: int) -> int:
    return max(low, min(value, high))
