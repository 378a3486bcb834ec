"""Stored tensors of a `Layout` -> canonical ones. Plain torch on the host.

Legend: N outputs, K inputs, G groups; "..." for the axis of experts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from inferplane.errors import UserError
from inferplane.spec import QuantScheme
from inferplane.spec.quantized import pack, unpack

from .layout import Layout, scale_shape

if TYPE_CHECKING:
    import torch

Read = Callable[[str], "torch.Tensor"]


def canonical(layout: Layout, read: Read, module: str) -> dict[str, torch.Tensor]:
    """read: a stored tensor by the layout's name. Raises UserError for types that do not fit."""
    scheme = layout.scheme
    stored = read(layout.weight)
    scale = read(layout.scale)
    weight = _weight(layout, stored, f"{module}.{layout.weight}")
    rows = weight.shape[-2]
    columns = weight.shape[-1] * scheme.packed
    front = tuple(weight.shape[:-2])
    shape = scale_shape(scheme, (*front, rows, columns))
    found = {
        "weight": weight.contiguous(),
        "scale": _scale(scheme, scale, f"{module}.{layout.scale}").reshape(shape),
    }
    if scheme.zero_point:
        found["zero"] = _zero(layout, read(layout.zero), rows).reshape(shape)
    for name, kept in ((layout.global_scale, "global_scale"), (layout.input_scale, "input_scale")):
        if name:
            number = _float(read(name), f"{module}.{name}").reshape(*front, 1)
            found[kept] = 1.0 / number if layout.inverse else number
    if layout.order:
        found |= _ordered(layout, found["weight"], read(layout.order), f"{module}.{layout.order}")
    return found


def _weight(layout: Layout, stored: torch.Tensor, name: str) -> torch.Tensor:
    import torch

    from inferplane.spec.torch_types import torch_dtype

    scheme, packing = layout.scheme, layout.packing
    if packing == "words":
        expect(stored, name, torch.int32)
        codes = _bytes(stored)
        return (codes ^ 128).view(torch.int8) if scheme.weight == "int8" else codes
    if packing == "loose":
        expect(stored, name, torch.int8)
        if scheme.packed == 2:
            return pack((stored + 8).to(torch.uint8) & 15)
        return _unsigned(stored) if scheme.weight == "uint8" else stored
    if packing == "rows":
        expect(stored, name, torch.int8, torch.uint8)
        codes = unpack(stored.view(torch.uint8).transpose(-1, -2)).transpose(-1, -2)
        return pack(codes ^ 8)  # two's complement to an offset of 8
    if packing == "blocks":
        stored = stored.flatten(-2)
    wanted = torch_dtype(scheme.storage)
    bytes_ = (torch.uint8, torch.int8)
    expect(stored, name, wanted, *(bytes_ if wanted not in bytes_ or scheme.packed == 2 else ()))
    return stored.view(wanted)


def _bytes(stored: torch.Tensor) -> torch.Tensor:
    """int32 [..., W] -> uint8 [..., 4 W]. A plain copy: strides of axes of one may be anything."""

    import torch

    return stored.clone(memory_format=torch.contiguous_format).view(torch.uint8)


def _unsigned(stored: torch.Tensor) -> torch.Tensor:
    """int8 -> uint8, plus 128."""

    import torch

    return stored.view(torch.uint8) ^ 128


def _zero(layout: Layout, stored: torch.Tensor, rows: int) -> torch.Tensor:
    """uint8 [..., N, G], in the codes of the weight."""

    import torch

    if layout.packing == "words":
        codes = _bytes(stored.transpose(-1, -2))
        if layout.scheme.packed == 2:
            codes = unpack(codes)
        return codes[..., :rows].transpose(-1, -2)
    if layout.scheme.packed == 2:
        return (stored.to(torch.int8) + 8).to(torch.uint8)
    return _unsigned(stored.to(torch.int8))


def _scale(scheme: QuantScheme, stored: torch.Tensor, name: str) -> torch.Tensor:
    import torch

    from inferplane.spec.torch_types import torch_dtype

    if scheme.scale == "ue8m0":
        expect(stored, name, torch.uint8, torch.float8_e8m0fnu)
        return stored.view(torch.uint8)
    if stored.dtype == torch.float8_e8m0fnu:
        return stored.to(torch.float32)
    wanted = torch_dtype(scheme.scale)
    if scheme.scale.startswith("fp8"):
        expect(stored, name, wanted, torch.uint8)
        return stored.view(wanted)
    expect(stored, name, *_floats())
    kept = stored.to(wanted)
    if not torch.equal(kept.to(stored.dtype), stored):
        raise UserError(
            f"{name} is {stored.dtype}, other scales are {scheme.scale}, which cannot hold it"
        )
    return kept


def _floats() -> tuple[torch.dtype, ...]:
    import torch

    return torch.float32, torch.bfloat16, torch.float16, torch.float64


def _float(stored: torch.Tensor, name: str) -> torch.Tensor:
    import torch

    expect(stored, name, *_floats())
    if not bool(torch.isfinite(stored).all()) or bool((stored == 0).any()):
        raise UserError(f"{name} is {stored.flatten()[:4].tolist()}; a scale is a finite number")
    return stored.to(torch.float32)


def _ordered(
    layout: Layout, weight: torch.Tensor, group_of: torch.Tensor, name: str
) -> dict[str, torch.Tensor]:
    """Inputs sorted by their group. group_of: int [K], the group of each of the layer's inputs."""

    import torch

    scheme = layout.scheme
    order = group_of.long().argsort(stable=True)
    whole = torch.arange(len(order)) // scheme.group
    if not torch.equal(group_of.long()[order], whole):
        raise UserError(f"{name} does not put {scheme.group} inputs into each group")
    codes = unpack(weight) if scheme.packed == 2 else weight
    codes = codes[..., order]
    return {
        "weight": pack(codes) if scheme.packed == 2 else codes.contiguous(),
        "order": order.to(torch.int32),
    }


def expect(stored: torch.Tensor, name: str, *dtypes: torch.dtype) -> None:
    """Raises UserError for a tensor of another type."""
    if stored.dtype not in dtypes:
        known = " or ".join(dict.fromkeys(str(dtype).removeprefix("torch.") for dtype in dtypes))
        raise UserError(
            f"{name} is {str(stored.dtype).removeprefix('torch.')}, its format has {known}"
        )
