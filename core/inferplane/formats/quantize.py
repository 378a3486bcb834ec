"""From a dense weight to canonical quantized tensors: round to nearest, one scale at a time.

Legend: N outputs, K inputs; "..." for the axis of experts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferplane.spec import QuantScheme
from inferplane.spec.quantized import (
    LARGEST,
    NF4_VALUES,
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
    """Dense [..., N, K] -> canonical tensors. Raises ValueError for schemes that need more than the
    weight: an order of inputs, or static scales of them."""
    import torch

    if scheme.reordered or not scheme.dynamic:
        raise ValueError(f"weights cannot be quantized to {scheme.name} here")
    if weight.dim() > 2:
        experts = [quantize(scheme, one) for one in weight]
        return {name: torch.stack([e[name] for e in experts]) for name in experts[0]}
    rows = max(1, _AT_ONCE // weight.shape[1] // 128) * 128  # whole blocks
    whole = scheme.granularity == "tensor" or scheme.global_scale  # a number for all rows
    if whole or len(weight) <= rows:
        return _quantize(scheme, weight)
    pieces = [_quantize(scheme, piece) for piece in weight.split(rows)]
    return {name: torch.cat([p[name] for p in pieces]) for name in pieces[0]}


def _quantize(scheme: QuantScheme, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    wide, found = weight.float(), {}
    if scheme.global_scale:
        found["global_scale"] = _global(scheme, wide).reshape(1)
        wide = wide / found["global_scale"]
    if scheme.zero_point:
        return found | _with_zeros(scheme, wide)
    scale = _scale(scheme, wide)
    number = exponents(scale) if scheme.scale == "ue8m0" else scale
    stored = wide / spread(scheme, number, tuple(wide.shape))
    return found | {"weight": _codes(scheme, stored), "scale": _as_stored(scheme, scale)}


def _global(scheme: QuantScheme, weight: torch.Tensor) -> torch.Tensor:
    """So that the largest scale of a group is the largest number of the scales' type."""
    largest = LARGEST[scheme.weight] * LARGEST[scheme.scale]
    return weight.abs().amax().clamp(min=1e-12) / largest


def _with_zeros(scheme: QuantScheme, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """Unsigned codes from the least to the greatest number that share a scale; 0 is a code."""
    import torch

    steps = 15 if scheme.weight == "uint4" else 255
    high, low = _peaks(scheme, weight.clamp(min=0)), _peaks(scheme, -weight.clamp(max=0))
    scale = ((high + low) / steps).clamp(min=1e-12)
    scale = scale.to(_dtype(scheme.scale)).float()
    zero = (low / scale).round().clamp(0, steps)
    shape = tuple(weight.shape)
    codes = (weight / spread(scheme, scale, shape) + spread(scheme, zero, shape)).round()
    stored = codes.clamp(0, steps).to(torch.uint8)
    return {
        "weight": pack(stored) if scheme.packed == 2 else stored,
        "scale": scale.to(_dtype(scheme.scale)),
        "zero": zero.to(torch.uint8),
    }


def _dtype(name: str) -> torch.dtype:
    from inferplane.spec.torch_types import torch_dtype

    return torch_dtype(name)


def _scale(scheme: QuantScheme, weight: torch.Tensor) -> torch.Tensor:
    """fp32 scales, or ue8m0 codes: the largest magnitude that shares one becomes the type's."""
    peak = _peaks(scheme, weight.abs())
    if scheme.scale == "ue8m0":
        return shared_exponents(peak, scheme.weight)
    # -8 to 7: half a step beyond 7 is rounded to it
    largest = 7.5 if scheme.weight == "int4" else LARGEST.get(scheme.weight, 1.0)
    scale = peak.clamp(min=1e-12) / largest
    return scale.to(_dtype(scheme.scale)).float().clamp(min=1e-12)


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

    if scheme.weight == "int4":
        codes = stored.round().clamp(-8, 7) + 8
        return pack(codes.to(torch.uint8))
    if scheme.weight == "fp4_e2m1":
        return pack(fp4_codes(stored))
    if scheme.weight == "nf4":
        table = torch.tensor(NF4_VALUES, device=stored.device)
        return pack(torch.bucketize(stored, (table[1:] + table[:-1]) / 2).to(torch.uint8))
    return rounded(stored, scheme.weight).to(_dtype(scheme.weight))


def _as_stored(scheme: QuantScheme, scale: torch.Tensor) -> torch.Tensor:
    return scale if scheme.scale == "ue8m0" else scale.to(_dtype(scheme.scale))
