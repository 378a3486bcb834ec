"""RMS norm (Zhang and Sennrich 2019), computed in fp32."""

from __future__ import annotations

from collections.abc import Callable

import torch

from inferplane.spec import NormRequest

from .wide import wide


def _normed(x: torch.Tensor, weight: torch.Tensor, eps: float, offset: float) -> torch.Tensor:
    y = wide(x)
    y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + eps)
    if offset:
        return (y * (wide(weight) + offset)).to(x.dtype)
    return weight * y.to(x.dtype)


def rms_norm(request: NormRequest) -> Callable[..., torch.Tensor]:
    eps, offset = request.eps, request.weight_offset

    def run(x: torch.Tensor, weight_C: torch.Tensor) -> torch.Tensor:
        return _normed(x, weight_C, eps, offset)

    return run


def add_rms_norm(request: NormRequest) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    eps, offset = request.eps, request.weight_offset

    def run(
        x_TC: torch.Tensor, residual_TC: torch.Tensor, weight_C: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        residual_TC = residual_TC + x_TC
        return _normed(residual_TC, weight_C, eps, offset), residual_TC

    return run
