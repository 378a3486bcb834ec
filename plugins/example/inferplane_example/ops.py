"""Kernels of our own. Legend: T tokens, C hidden size."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from inferplane.spec import NormRequest


def add_rms_norm(request: NormRequest) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """op "norm.add_rms": the sum is written over the residual, so that nothing is allocated for it.

    The contract allows that: `inferplane.spec.OPS["norm.add_rms"].mutates` names both inputs.
    """
    eps = request.eps

    def run(
        x_TC: torch.Tensor, residual_TC: torch.Tensor, weight_C: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        residual_TC += x_TC
        return F.rms_norm(residual_TC, weight_C.shape, weight_C, eps), residual_TC

    return run
