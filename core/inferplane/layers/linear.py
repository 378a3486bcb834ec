"""A linear layer: a bound kernel and its packed weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from inferplane.plugins.binding import ByTokens, make
from inferplane.plugins.resolution import Choice
from inferplane.spec import LinearKernel, Packed


class Linear:
    """y_TN = kernel(x_TC)."""

    __slots__ = ("kernel", "packed")

    def __init__(self, kernel: LinearKernel, packed: Packed) -> None:
        self.kernel = kernel
        self.packed = packed

    def __call__(self, x_TC: Any) -> Any:
        return self.kernel(x_TC, self.packed)


def by_tokens(
    choice: Choice,
    prepare: Callable[[Any], Packed],
    layer: Callable[[Any, Packed], Any] = Linear,
) -> Any:
    """One layer, or one a token range; candidates that share a packing share the weight."""
    packings: dict[str, Packed] = {}
    layers = []
    for tokens, candidate in choice.ranges:
        kernel = make(candidate, choice.request.over(tokens))
        packing = candidate.packing or candidate.name
        if packing not in packings:
            packings[packing] = prepare(kernel)
        layers.append((tokens.first, layer(kernel, packings[packing])))
    return layers[0][1] if len(layers) == 1 else ByTokens(layers)
