"""RMS norm (Zhang and Sennrich 2019), alone or after the sum with a residual, in fp32.

Legend: T tokens, C hidden, H heads, D head size. A row is what is normed: [C], or one head's [D].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import triton
import triton.language as tl

from inferplane.spec import NormRequest

from .defaults import norm as default
from .launch import launch, power_of_two
from .tuned_files import configured


@triton.jit(do_not_specialize=["rows"])
def rms_norm_kernel(
    x, residual, weight, y, rows, heads, x_t, x_h, residual_t, y_t, y_h, eps, offset,
    SIZE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
    ADD: tl.constexpr, OFFSET: tl.constexpr,
):  # fmt: skip
    """One program norms ROWS rows. Row r is head r % heads of token r // heads.

    ADD: the row is x + residual, which goes to `residual`. OFFSET: `offset` is added to the weight.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    mask = (row < rows)[:, None] & (column < SIZE)[None, :]
    token, head = (row // heads).to(tl.int64), row % heads
    value = tl.load(x + (token * x_t + head * x_h)[:, None] + column[None, :], mask=mask, other=0.0)
    dtype = value.dtype
    value = value.to(tl.float32)
    if ADD:
        place = residual + (token * residual_t)[:, None] + column[None, :]
        value += tl.load(place, mask=mask, other=0.0).to(tl.float32)
        total = value.to(dtype)
        tl.store(place, total, mask=mask)
        value = total.to(tl.float32)
    mean = tl.sum(value * value, axis=1) / SIZE
    value *= tl.rsqrt(mean + eps)[:, None]
    scale = tl.load(weight + column, mask=column < SIZE, other=0.0).to(tl.float32)[None, :]
    if OFFSET:
        scale += offset
    else:
        value = value.to(dtype).to(tl.float32)  # rounded before the weight, as the models do
    place = y + (token * y_t + head * y_h)[:, None] + column[None, :]
    tl.store(place, (value * scale).to(dtype), mask=mask)


def _norm(
    x: torch.Tensor,
    residual: torch.Tensor | None,
    weight_C: torch.Tensor,
    y: torch.Tensor,
    request: NormRequest,
    configuration: Mapping[str, int],
) -> None:
    """x and y: [T, C] or [T, H, D], the last axis contiguous."""
    heads = x.shape[1] if x.ndim == 3 else 1
    rows = x.shape[0] * heads
    launch(
        rms_norm_kernel,
        (triton.cdiv(rows, configuration["rows"]),),
        x,
        residual,
        weight_C,
        y,
        rows,
        heads,
        x.stride(0),
        x.stride(1) if x.ndim == 3 else 0,
        0 if residual is None else residual.stride(0),
        y.stride(0),
        y.stride(1) if y.ndim == 3 else 0,
        request.eps,
        request.weight_offset,
        SIZE=request.size,
        ROWS=configuration["rows"],
        BLOCK=power_of_two(request.size),
        ADD=residual is not None,
        OFFSET=request.weight_offset != 0.0,
        options={"num_warps": configuration["warps"]},
    )


def rms_norm(
    request: NormRequest, configuration: Mapping[str, int] | None = None
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """op "norm.rms": (x, weight) -> a new tensor. x is [T, C], or [T, H, D] with any strides."""
    config = configuration or configured("norm.rms", request, "", default(request))

    def run(x: torch.Tensor, weight_C: torch.Tensor) -> torch.Tensor:
        shape = x.shape
        if x.ndim not in (2, 3):
            x = x.reshape(-1, shape[-1])
        if x.stride(-1) != 1:
            x = x.contiguous()
        y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        _norm(x, None, weight_C, y, request, config)
        return y.view(shape)

    return run


def add_rms_norm(
    request: NormRequest, configuration: Mapping[str, int] | None = None
) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """op "norm.add_rms": (x [T, C], residual [T, C], weight) -> (normed sum, sum), which lie in
    the memory of x and of the residual."""
    config = configuration or configured("norm.add_rms", request, "", default(request))

    def run(
        x_TC: torch.Tensor, residual_TC: torch.Tensor, weight_C: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        _norm(x_TC, residual_TC, weight_C, x_TC, request, config)
        return x_TC, residual_TC

    return run
