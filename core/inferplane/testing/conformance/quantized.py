"""Quantized weights for problems: random codes and scales, and what they are worth.

Legend: N outputs, K inputs; "..." for the axis of experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from inferplane.layers.scheme_parts import tensors_of
from inferplane.spec import QuantScheme
from inferplane.spec.quantized import (
    LARGEST,
    NF4_VALUES,
    as_quantized,
    dequantize,
    input_scales,
    rounded,
)
from inferplane.spec.torch_types import torch_dtype

from .numbers import Numbers
from .problem import Tensors

_NEAR = 2.0**-18
"""How far, as a share of itself, an input may be from where its rounding changes, to be taken for
one that a right kernel may round the other way: some units of fp32, for a scale that was computed
in another order."""

_SIZES = {
    "int8": 73.0,
    "uint8": 104.0,
    "int4": 4.6,
    "uint4": 6.5,
    "fp4_e2m1": 2.9,
    "nf4": sum(v * v for v in NF4_VALUES) ** 0.5 / 4,
}
"""Root mean squares of random codes (uint types: less a random zero point)."""


@dataclass
class Sizes:
    """Of one weight: rows of its parts, and inputs. front: axes before, such as experts."""

    parts: tuple[int, ...]
    inputs: int
    front: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        return sum(self.parts)


def draw(scheme: QuantScheme, sizes: Sizes, numbers: Numbers) -> Tensors:
    """Canonical tensors, as `spec.quant` lists them: every code, and a scale of its own wherever
    the scheme has one, so that one that is taken for another shows."""
    found = {}
    for tensor in tensors_of(scheme):
        counts = [sizes.rows, *(tensor.shape(sizes.rows, sizes.inputs)[1:])]
        if tensor.axes[0].kind == "fixed":
            counts[0] = len(sizes.parts)
        elif tensor.name == "order":
            counts = [sizes.inputs]
        elif tensor.axes[0].by > 1:
            counts[0] = sum(-(-rows // tensor.axes[0].by) for rows in sizes.parts)
        shape = (*sizes.front, *counts)
        found[tensor.name] = _tensor(scheme, tensor.name, shape, sizes, numbers)
    return found


def _tensor(
    scheme: QuantScheme, name: str, shape: tuple[int, ...], sizes: Sizes, numbers: Numbers
) -> torch.Tensor:
    if name == "weight":
        return _codes(scheme, shape, numbers)
    if name == "zero":
        return numbers.integers(0, 256 if scheme.weight == "uint8" else 16, *shape).to(torch.uint8)
    if name == "order":
        return torch.randperm(shape[-1], generator=numbers.torch).to(torch.int32)
    spread = 0.5 + torch.rand(shape, generator=numbers.torch)
    if name == "input_scale":
        return spread * 2.5 / LARGEST[scheme.activation]
    size = sizes.inputs**-0.5 / _SIZES.get(scheme.weight, 1.0)
    if name == "global_scale":
        return spread * size / 64.0
    if scheme.scale == "ue8m0":
        around = round(torch.log2(torch.tensor(size)).item()) + 127
        return numbers.integers(around - 1, around + 2, *shape).to(torch.uint8)
    wanted = spread * (64.0 if scheme.global_scale else size)
    return wanted.to(torch_dtype(scheme.scale))


def _codes(scheme: QuantScheme, shape: tuple[int, ...], numbers: Numbers) -> torch.Tensor:
    if scheme.packed == 2 or scheme.weight == "uint8":
        return numbers.integers(0, 256, *shape).to(torch.uint8)
    if scheme.weight == "int8":
        return numbers.integers(-128, 128, *shape).to(torch.int8)
    return torch.randn(shape, generator=numbers.torch).to(torch_dtype(scheme.storage))


def worth(scheme: QuantScheme, tensors: Tensors, parts: tuple[int, ...]) -> torch.Tensor:
    """The weight [..., N, K] in fp64."""
    return dequantize(scheme, tensors, parts).double()


def seen(scheme: QuantScheme, x_TK: torch.Tensor, tensors: Tensors) -> torch.Tensor:
    """What a kernel makes of its inputs, in fp64."""
    if not scheme.activation:
        return x_TK.double()
    return as_quantized(scheme, x_TK, tensors.get("input_scale")).double()


def doubt(scheme: QuantScheme, x_TK: torch.Tensor, tensors: Tensors) -> torch.Tensor:
    """fp64 [T, K]: how far apart two right kernels may see an input, since its rounding is a matter
    of the last bits of a scale. Nearly everywhere 0."""
    if not scheme.activation:
        return torch.zeros(x_TK.shape, dtype=torch.float64)
    if scheme.dynamic:
        scale = input_scales(scheme, x_TK)
        if scheme.activation_granularity == "group":
            scale = scale.repeat_interleave(scheme.activation_group, dim=-1)[:, : x_TK.shape[-1]]
    else:
        scale = tensors["input_scale"].max().reshape(1, 1)
    exact = x_TK.double() / scale.double()
    up, down = (
        rounded((exact * factor).float(), scheme.activation) for factor in (1 + _NEAR, 1 - _NEAR)
    )
    return (up - down).abs().double() * scale.double()


def rows_of(scheme: QuantScheme, parts: tuple[int, ...], name: str) -> tuple[int, ...]:
    """First-axis lengths of each part of a canonical tensor."""
    axes = {tensor.name: tensor.axes[0] for tensor in tensors_of(scheme)}
    axis = axes.get(name)
    if axis is None:  # the bias
        return parts
    if axis.kind == "rows":
        return tuple(-(-rows // axis.by) for rows in parts)
    return (1,) * len(parts) if axis.kind == "fixed" else ()
