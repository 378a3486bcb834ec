"""From a dense weight to canonical quantized tensors: round to nearest, one scale at a time.

Legend: N outputs, K inputs; "..." for the axis of experts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferplane.spec import QuantScheme
from inferplane.spec.quantized import (
    LARGEST,
    exponents,
    fp4_codes,
    pack,
    rounded,
    shared_exponents,
    spread,
)

if TYPE_CHECKING:
    import torch

_AT_ONCE = 1 << 20
"""Elements that are held in fp32 at once, so that loading needs little beyond the result."""


def quantize(scheme: QuantScheme, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """Dense [..., N, K] -> canonical tensors. Symmetric schemes with dynamic or no activations;
    raises ValueError for others."""
    import torch

    if scheme.zero_point or scheme.reordered or scheme.global_scale or not scheme.dynamic:
        raise ValueError(f"weights cannot be quantized to {scheme.name} here")
    if weight.dim() > 2:
        experts = [quantize(scheme, one) for one in weight]
        return {name: torch.stack([e[name] for e in experts]) for name in experts[0]}
    rows = max(1, _AT_ONCE // weight.shape[1] // 128) * 128  # whole blocks
    if scheme.granularity == "tensor" or len(weight) <= rows:
        return _quantize(scheme, weight)
    pieces = [_quantize(scheme, piece) for piece in weight.split(rows)]
    return {name: torch.cat([p[name] for p in pieces]) for name in pieces[0]}


def _quantize(scheme: QuantScheme, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    wide = weight.float()
    scale = _scale(scheme, wide)
    number = exponents(scale) if scheme.scale == "ue8m0" else scale
    stored = wide / spread(scheme, number, tuple(wide.shape))
    return {"weight": _codes(scheme, stored), "scale": _as_stored(scheme, scale)}


def _scale(scheme: QuantScheme, weight: torch.Tensor) -> torch.Tensor:
    """fp32 scales, or ue8m0 codes. The largest magnitude that shares one becomes the largest
    number of the type."""
    peak = _peaks(scheme, weight.abs())
    if scheme.scale == "ue8m0":
        return shared_exponents(peak, scheme.weight)
    from inferplane.spec.torch_types import torch_dtype

    largest = 7.5 if scheme.weight == "int4" else LARGEST[scheme.weight]
    scale = peak.clamp(min=1e-12) / largest
    return scale.to(torch_dtype(scheme.scale)).float()


def _peaks(scheme: QuantScheme, size: torch.Tensor) -> torch.Tensor:
    import torch.nn.functional as F

    rows, columns = size.shape[-2:]
    if scheme.granularity == "tensor":
        return size.amax((-2, -1))[..., None]
    if scheme.granularity == "channel":
        return size.amax(-1)
    high, wide = (1, scheme.group) if scheme.granularity == "group" else scheme.block
    padded = F.pad(size, (0, -columns % wide, 0, -rows % high))
    blocks = padded.unflatten(-1, (-1, wide)).unflatten(-3, (-1, high))
    return blocks.amax((-1, -3))


def _codes(scheme: QuantScheme, stored: torch.Tensor) -> torch.Tensor:
    import torch

    from inferplane.spec.torch_types import torch_dtype

    if scheme.weight == "int4":
        codes = stored.round().clamp(-8, 7) + 8
        return pack(codes.to(torch.uint8))
    if scheme.weight == "fp4_e2m1":
        return pack(fp4_codes(stored))
    return rounded(stored, scheme.weight).to(torch_dtype(scheme.weight))


def _as_stored(scheme: QuantScheme, scale: torch.Tensor) -> torch.Tensor:
    from inferplane.spec.torch_types import torch_dtype

    return scale if scheme.scale == "ue8m0" else scale.to(torch_dtype(scheme.scale))
