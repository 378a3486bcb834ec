"""Whether two kernels compute the same: how far their results are apart, and how far they may be.

The bounds tell a wrong kernel from a right one, not a good one from a better one: conformance does
that. What is rounded differently stays far below them.
"""

from __future__ import annotations

from math import inf, sqrt
from typing import TYPE_CHECKING, Any

from inferplane.spec import UNQUANTIZED

if TYPE_CHECKING:
    import torch

_CHUNK = 1 << 24


def bound(request: Any) -> float:
    """The most that results may differ, see `difference`."""
    exact = request.dtype in ("fp32", "fp64")
    return 1e-3 if exact and not getattr(request, "scheme", UNQUANTIZED).quantized else 5e-2


def results_of(request: Any, given: Any) -> list[torch.Tensor]:
    """What a call gave, on the host. Of routing, each expert's weight [T, X]: the order of equal
    weights is no result."""
    import torch

    tensors = [given] if isinstance(given, torch.Tensor) else list(given)
    found = [tensor.to("cpu", copy=True) for tensor in tensors]
    if request.op != "moe.route":
        return found
    weights_TE, experts_TE = found
    sums_TX = torch.zeros(len(weights_TE), request.experts + request.shared)
    return [sums_TX.scatter_add_(1, experts_TE.long(), weights_TE.float())]


def finite(results: list[torch.Tensor]) -> bool:
    """Whether every result has a finite number, so that another one can be compared with it."""
    return all(bool(tensor.isfinite().any()) for tensor in results)


def difference(found: list[torch.Tensor], right: list[torch.Tensor]) -> float:
    """The norm of found - right as a share of right's, of the result that differs most. Numbers
    where `right` overflowed do not count. Infinite where `found` is not finite; raises ValueError
    for another shape."""
    shapes = [tuple(tensor.shape) for tensor in found], [tuple(tensor.shape) for tensor in right]
    if shapes[0] != shapes[1]:
        raise ValueError(f"its results have the shapes {shapes[0]}, not {shapes[1]}")
    return max(_relative(f, r) for f, r in zip(found, right, strict=True))


def _relative(found: torch.Tensor, right: torch.Tensor) -> float:
    error = size = 0.0
    for f, r in zip(found.flatten().split(_CHUNK), right.flatten().split(_CHUNK), strict=True):
        counts = r.isfinite()
        wide = r[counts].double()
        error += float((f[counts].double() - wide).square().sum())
        size += float(wide.square().sum())
    if error != error or error == inf:
        return inf
    return sqrt(error / size) if size else (inf if error else 0.0)
