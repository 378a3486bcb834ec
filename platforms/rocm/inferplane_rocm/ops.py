"""RMS norms of AITER. Source: aiter/ops/rmsnorm.py of ROCm/aiter at e404860.

Legend: T tokens, C hidden size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from inferplane.spec import NormRequest

from .libraries import load_aiter


def rms_norm(request: NormRequest) -> Callable[..., torch.Tensor]:
    norm, eps, size = load_aiter().rmsnorm2d_fwd, request.eps, request.size

    def run(x: torch.Tensor, weight_C: torch.Tensor) -> torch.Tensor:
        """x may have heads between tokens and channels; the library takes two axes."""
        found: torch.Tensor = norm(x.reshape(-1, size), weight_C, eps)
        return found.view(x.shape)

    return run


def add_rms_norm(request: NormRequest) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    norm, eps = load_aiter().rmsnorm2d_fwd_with_add, request.eps

    def run(
        x_TC: torch.Tensor, residual_TC: torch.Tensor, weight_C: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        out_TC, sum_TC = torch.empty_like(x_TC), torch.empty_like(residual_TC)
        norm(out_TC, x_TC, residual_TC, sum_TC, weight_C, eps)
        return out_TC, sum_TC

    return run
