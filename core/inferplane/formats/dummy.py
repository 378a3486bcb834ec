"""Random weights, so that any shape can be measured without a checkpoint."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from inferplane.spec import WeightPart

if TYPE_CHECKING:
    import torch


class DummyStore:
    """Normal numbers of a size that keeps activations finite; norms are one.

    Drawn on the device, or on the host where torch has no generator for the device (back-ends
    written in Python). The same key gives the same numbers on the same kind of device.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype

    def read(self, part: WeightPart) -> torch.Tensor:
        import torch

        if len(part.shape) == 1:
            fill = 0.0 if part.key.endswith("bias") else 1.0
            return torch.full(part.shape, fill, dtype=self.dtype, device=self.device)
        generator = self._generator().manual_seed(zlib.crc32(part.key.encode()))
        tensor = torch.empty(part.shape, dtype=self.dtype, device=generator.device)
        return tensor.normal_(0.0, 0.02, generator=generator).to(self.device)

    def _generator(self) -> torch.Generator:
        import torch

        try:
            return torch.Generator(self.device)
        except NotImplementedError:
            return torch.Generator("cpu")
