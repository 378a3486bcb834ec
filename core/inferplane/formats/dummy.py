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

        if part.dtype:
            return self._quantized(part)
        if len(part.shape) == 1:
            fill = 0.0 if part.key.endswith("bias") else 1.0
            return torch.full(part.shape, fill, dtype=self.dtype, device=self.device)
        generator = generator_of(self.device).manual_seed(zlib.crc32(part.key.encode()))
        tensor = torch.empty(part.shape, dtype=self.dtype, device=generator.device)
        return tensor.normal_(0.0, 0.02, generator=generator).to(self.device)

    def _quantized(self, part: WeightPart) -> torch.Tensor:
        """Random codes, small scales, and inputs in their own order."""
        import torch

        from inferplane.spec.torch_types import torch_dtype

        dtype, name = torch_dtype(part.dtype), part.key.rpartition(".")[2]
        if name == "order":
            return torch.arange(part.shape[-1], dtype=dtype, device=self.device)
        if name in ("scale", "global_scale", "input_scale"):
            fill = 120.0 if part.dtype == "uint8" else 2.0**-7
            return torch.full(part.shape, fill, device=self.device).to(dtype)
        generator = generator_of(self.device).manual_seed(zlib.crc32(part.key.encode()))
        if dtype.is_floating_point:
            numbers = torch.empty(part.shape, device=generator.device)
            return numbers.normal_(0.0, 1.0, generator=generator).to(dtype).to(self.device)
        low, high = (-127, 128) if part.dtype == "int8" else (0, 256 if name == "weight" else 16)
        numbers = torch.empty(part.shape, dtype=torch.int16, device=generator.device)
        return numbers.random_(low, high, generator=generator).to(dtype).to(self.device)


def generator_of(device: torch.device) -> torch.Generator:
    """Of the device, or of the host where torch has none for it."""
    import torch

    try:
        return torch.Generator(device)
    except NotImplementedError:
        return torch.Generator("cpu")
