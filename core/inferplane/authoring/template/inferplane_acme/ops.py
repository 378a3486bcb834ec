"""Kernels. Legend: T tokens, C hidden size. Imported when a kernel is loaded, so torch is fine.

A factory is called once for a request and gives the callable that `inferplane.spec.OPS` describes:
its arguments, which of them it may write, and its result.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from inferplane.spec import NormRequest


def add_rms_norm(request: NormRequest) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """op "norm.add_rms": (x, residual, weight) -> (norm(x + residual) * weight, x + residual)."""
    eps = request.eps

    def run(
        x_TC: torch.Tensor, residual_TC: torch.Tensor, weight_C: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        residual_TC += x_TC  # change: your kernel. Queue it on the current stream; do not wait
        return F.rms_norm(residual_TC, weight_C.shape, weight_C, eps), residual_TC

    return run
