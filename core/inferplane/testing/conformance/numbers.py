"""Random host tensors for problems."""

from __future__ import annotations

import numpy as np
import torch

from inferplane.spec.torch_types import torch_dtype


class Numbers:
    """Draws from one seed, in order."""

    def __init__(self, seed: int) -> None:
        self.torch = torch.Generator().manual_seed(seed)
        self.numpy = np.random.default_rng(seed)

    def normal(self, *shape: int, dtype: str, scale: float = 1.0) -> torch.Tensor:
        """Rounded to `dtype`, so that the oracle sees what the kernel sees."""
        return (torch.randn(shape, generator=self.torch) * scale).to(torch_dtype(dtype))

    def weight(self, *shape: int, dtype: str) -> torch.Tensor:
        """A matrix that keeps the size of what goes through it, or a vector around one."""
        if len(shape) == 1:
            return (1 + 0.2 * torch.randn(shape, generator=self.torch)).to(torch_dtype(dtype))
        return self.normal(*shape, dtype=dtype, scale=shape[-1] ** -0.5)

    def integers(self, low: int, high: int, *shape: int) -> torch.Tensor:
        """int64, from low to high - 1."""
        return torch.randint(low, high, shape, generator=self.torch)
