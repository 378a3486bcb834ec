"""The type that the reference computes in."""

from __future__ import annotations

import torch


def wide(x: torch.Tensor) -> torch.Tensor:
    """In fp32; in fp64 where `x` is, so that the same code is an oracle for fp32 kernels."""
    return x if x.dtype == torch.float64 else x.float()
