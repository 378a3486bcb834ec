"""Quantized weights as the kernels read them, made once out of the canonical tensors.

Legend: X experts (no such axis for linear layers), N outputs, K inputs, G groups of inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch

from inferplane.spec import QuantScheme
from inferplane.spec.quantized import NF4_VALUES, by_rows, exponents, to_fnuz
from inferplane.spec.torch_types import torch_dtype

from .schemes import Recipe


@dataclass(slots=True, kw_only=True)
class Operand:
    """weight [X, N, K] or [X, N, K/2]. scale, zero [X, G, N / rows]: applied in the steps.
    last: fp32 [X, N], applied to the sums. input_scale: fp32 [X, 1]. order int32 [K].
    table [16]: of NF4, in the type that is multiplied: loops would copy fp32 ahead, one by one.
    None for what a scheme does not have."""

    weight: torch.Tensor
    scale: torch.Tensor | None = None
    zero: torch.Tensor | None = None
    last: torch.Tensor | None = None
    input_scale: torch.Tensor | None = None
    order: torch.Tensor | None = None
    table: torch.Tensor | None = None

    def tensors(self) -> dict[str, torch.Tensor]:
        every = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: tensor for name, tensor in every if tensor is not None}

    @property
    def width(self) -> int:
        """Columns of `scale` and `zero`."""
        some = self.scale if self.scale is not None else self.zero
        return 0 if some is None else some.shape[-1]


def operand(
    recipe: Recipe,
    scheme: QuantScheme,
    tensors: Mapping[str, torch.Tensor],
    parts: tuple[int, ...] = (),
) -> Operand:
    """tensors: as `spec.quant` lists them, with or without experts. parts: rows of each."""
    made = Operand(weight=tensors["weight"].contiguous())
    if not scheme.quantized:
        return made
    shape = made.weight.shape[:-1]
    scale = tensors["scale"]
    if recipe.kind == "fp8_bits":
        made.weight = made.weight.view(torch.uint8)
    if recipe.kind == "fp8" and recipe.type == "fp8_e4m3fnuz":
        ones = torch.ones(made.weight.shape[:-1], device=scale.device)
        made.weight, last = to_fnuz(made.weight, ones)
    else:
        last = None
    if recipe.in_weight:
        kept, last = scales_of_weights(recipe, scheme, scale)
        made.scale = _columns(kept)
    elif recipe.group:
        made.scale = _columns(scale.half() if scheme.scale == "fp8_e4m3" else scale)
    else:
        numbers = exponents(scale) if scheme.scale == "ue8m0" else scale.float()
        last = _times(last, _by_row(scheme, numbers, shape, parts))
    if scheme.zero_point:
        zero = tensors["zero"]
        made.zero = (
            _columns(zero) if recipe.group else _by_row(scheme, zero, shape, parts)[..., None, :]
        ).contiguous()
    if scheme.global_scale:
        last = _times(last, by_rows(tensors["global_scale"].float(), shape[-1], parts))
    made.last = None if last is None else last.contiguous()
    if scheme.activation and not scheme.dynamic:
        every = tensors["input_scale"].float()
        made.input_scale = every.reshape(*made.weight.shape[:-2], -1).amax(-1, keepdim=True)
    if scheme.reordered:
        made.order = tensors["order"]
    if recipe.kind == "nf4":
        table = torch.tensor(NF4_VALUES, device=made.weight.device)
        made.table = table.to(torch_dtype(recipe.type))
    return made


_SMALLER = {"fp4": 126, "fp8_bits": 120}
"""2 to the power of this: by how much `tiles.scaled_codes` makes weights smaller."""
_ROOM = 8  # 2**8: what scales in e4m3 are divided by, so that they stay in bf16's range


def scales_of_weights(
    recipe: Recipe, scheme: QuantScheme, scale: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(scales of groups, fp32 [X, N]: what a row's sums are multiplied with), for weights that are
    scaled before they are multiplied. scale: [X, N, G].

    Powers of two are bytes, the exponents of fp32, and relative to the row's largest, which is left
    to the sums: however large or small scales are, no weight leaves the range of bf16 at the upper
    end. At the lower one, groups whose scale is less than 2**-132 (fp4) or 2**-124 (fp8) of their
    row's largest lose what is below 2**-133 of that, the smallest number of bf16. Scales in e4m3
    reach from 2**-9 to 448, and become bf16: all of their weights are exact.
    """
    smaller = _SMALLER[recipe.kind]
    if scheme.scale == "ue8m0":
        codes = scale.to(torch.int16)
        top = codes.amax(-1, keepdim=True)
        kept = (codes - top + (127 + smaller)).clamp(min=0).to(torch.uint8)
        return kept, exponents(top[..., 0])
    kept = (scale.float() * 2.0 ** (smaller - _ROOM)).bfloat16()
    return kept, torch.full(scale.shape[:-1], 2.0**_ROOM, device=scale.device)


def _columns(scale: torch.Tensor) -> torch.Tensor:
    """[X, N, G] -> [X, G, N]: outputs lie side by side, as a step reads them."""
    return scale.transpose(-1, -2).contiguous()


def _by_row(
    scheme: QuantScheme, numbers: torch.Tensor, shape: torch.Size, parts: tuple[int, ...]
) -> torch.Tensor:
    """One number a row: [X, N]."""
    if scheme.granularity == "tensor":
        return by_rows(numbers, shape[-1], parts)
    return numbers.reshape(shape)


def _times(one: torch.Tensor | None, other: torch.Tensor) -> torch.Tensor:
    return other if one is None else one * other
