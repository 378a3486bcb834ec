"""Inputs quantized at run time: a scale for each row, or for each group of its elements; alone, or
after an RMS norm in the same pass.

Legend: T rows, C elements of a row, G groups of a row.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from inferplane.spec.torch_types import torch_dtype

from .launch import between, launch, power_of_two
from .recipes import TYPES
from .schemes import Recipe
from .tiles import exponents, quantized

_SMALLEST = tl.constexpr(1e-12)


@triton.jit
def scale_of(peak, EXPONENTS: tl.constexpr, HIGH: tl.constexpr):
    """(what a group with this largest magnitude is divided by, the scale as it is stored).

    EXPONENTS: by the rule of the OCP, floor(log2(peak)) less the type's largest exponent, 8.
    """
    if EXPONENTS:
        code = (peak.to(tl.int32, bitcast=True) >> 23) - 8
        code = tl.maximum(code, 0)
        return exponents(code), code.to(tl.uint8)
    else:
        scale = tl.maximum(peak, _SMALLEST) / HIGH
        return scale, scale


@triton.jit
def quantize_kernel(
    x, q, scale, weight, x_t, eps, offset, SIZE: tl.constexpr, GROUP: tl.constexpr,
    EXPONENTS: tl.constexpr, TYPE: tl.constexpr, HIGH: tl.constexpr, NORM: tl.constexpr,
    OFFSET: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    """One program takes GROUPS groups of GROUP elements of one row; GROUP is a power of two.

    NORM: the row is normed first, so one program takes all of it, and rounds as `norm.rms` does.
    """
    token = tl.program_id(0).to(tl.int64)
    group = tl.program_id(1) * GROUPS + tl.arange(0, GROUPS)
    at = group[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    mask = at < SIZE
    value = tl.load(x + token * x_t + at, mask=mask, other=0.0)
    dtype = value.dtype
    value = value.to(tl.float32)
    if NORM:
        mean = tl.sum(tl.sum(value * value, axis=1), axis=0) / SIZE
        value *= tl.rsqrt(mean + eps)
        factor = tl.load(weight + at, mask=mask, other=0.0).to(tl.float32)
        if OFFSET:
            factor += offset
        else:
            value = value.to(dtype).to(tl.float32)
        value = (value * factor).to(dtype).to(tl.float32)
    peak = tl.max(tl.abs(value), axis=1)
    step, stored = scale_of(peak, EXPONENTS, HIGH)
    tl.store(q + token * SIZE + at, quantized(value / step[:, None], TYPE, HIGH), mask=mask)
    ALL: tl.constexpr = (SIZE + GROUP - 1) // GROUP
    tl.store(scale + token * ALL + group, stored, mask=group < ALL)


def quantize(
    x_TC: torch.Tensor,
    recipe: Recipe,
    norm: tuple[torch.Tensor, float, float] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(x in the recipe's type, scales [T, G]: fp32, or ue8m0 as uint8). The last axis of x is
    contiguous. norm: weight [C], epsilon and offset of an RMS norm that x goes through first."""
    tokens, size = x_TC.shape
    group = recipe.input_group or power_of_two(size)
    groups = -(-size // group)
    q = torch.empty((tokens, size), dtype=torch_dtype(recipe.type), device=x_TC.device)
    kind = torch.uint8 if recipe.input_exponents else torch.float32
    scale = torch.empty((tokens, groups), dtype=kind, device=x_TC.device)
    together = power_of_two(groups) if norm else between(1, 2048 // group, power_of_two(groups))
    weight, eps, offset = norm or (None, 0.0, 0.0)
    launch(
        quantize_kernel,
        (tokens, triton.cdiv(groups, together)),
        *(x_TC, q, scale, weight, x_TC.stride(0), eps, offset),
        SIZE=size,
        GROUP=group,
        EXPONENTS=recipe.input_exponents,
        TYPE=TYPES[recipe.type],
        HIGH=recipe.high,
        NORM=norm is not None,
        OFFSET=offset != 0.0,
        GROUPS=together,
        options={"num_warps": between(1, together * group // 512, 16)},
    )
    return q, scale


def whole_scale(x_TC: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """fp32 [1]: one scale for all of x."""
    return (x_TC.abs().amax().float().clamp(min=1e-12) / recipe.high).reshape(1)
