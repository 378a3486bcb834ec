"""RMS norms, alone or fused with the residual addition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Norm:
    """y = norm(x)."""

    __slots__ = ("kernel", "weight")

    def __init__(self, kernel: Callable[..., Any], weight: Any) -> None:
        self.kernel = kernel
        self.weight = weight

    def __call__(self, x: Any) -> Any:
        return self.kernel(x, self.weight)


class AddNorm:
    """(norm(x + residual), x + residual)."""

    __slots__ = ("kernel", "weight")

    def __init__(self, kernel: Callable[..., Any], weight: Any) -> None:
        self.kernel = kernel
        self.weight = weight

    def __call__(self, x_TC: Any, residual_TC: Any) -> tuple[Any, Any]:
        return self.kernel(x_TC, residual_TC, self.weight)


class FirstNorm(AddNorm):
    """(norm(x), x): the first layer has no residual yet."""

    def __call__(self, x_TC: Any, residual_TC: Any) -> tuple[Any, Any]:
        return self.kernel(x_TC, self.weight), x_TC
