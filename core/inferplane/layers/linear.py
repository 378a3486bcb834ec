"""A linear layer: a bound kernel and its packed weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from inferplane.plugins.binding import ByTokens, make
from inferplane.plugins.resolution import Choice
from inferplane.spec import Candidate, LinearKernel, Packed, Request


class Linear:
    """y_TN = kernel(x_TC)."""

    __slots__ = ("kernel", "packed")

    def __init__(self, kernel: LinearKernel, packed: Packed) -> None:
        self.kernel = kernel
        self.packed = packed

    def __call__(self, x_TC: Any) -> Any:
        return self.kernel(x_TC, self.packed)


class Split:
    """One linear layer a part, where their weights cannot be one: results side by side."""

    __slots__ = ("layers",)

    def __init__(self, layers: Sequence[Any]) -> None:
        self.layers = layers

    def __call__(self, x_TC: Any) -> Any:
        import torch

        return torch.cat([layer(x_TC) for layer in self.layers], dim=-1)


def by_tokens(
    choice: Choice,
    prepare: Callable[[Any], Packed],
    layer: Callable[[Any, Packed], Any] = Linear,
    check: Callable[[Candidate, Request, Any, Packed], None] | None = None,
) -> Any:
    """One layer, or one a token range; candidates that share a packing share the weight.

    check: is given each kernel, with its candidate, request and weights.
    """
    packings: dict[str, Packed] = {}
    layers = []
    for tokens, candidate in choice.ranges:
        request = choice.request.over(tokens)
        kernel = make(candidate, request)
        packing = candidate.packing or candidate.name
        if packing not in packings:
            packings[packing] = prepare(kernel)
        if check is not None:
            check(candidate, request, kernel, packings[packing])
        layers.append((tokens.first, layer(kernel, packings[packing])))
    return layers[0][1] if len(layers) == 1 else ByTokens(layers)
