"""Stored tensors, with their type checked. Torch inside functions only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferplane.errors import UserError

from .base import Read

if TYPE_CHECKING:
    import torch

_SMALLEST = 2.0**-24
"""The smallest fp16 number above 0."""


def take(read: Read, name: str, *dtypes: str) -> torch.Tensor:
    """A tensor of one of these types. Raises UserError for another, or where there is none."""
    from inferplane.spec.torch_types import torch_dtype

    try:
        tensor = read(name)
    except KeyError:
        raise UserError(f"the checkpoint has no tensor {name}") from None
    if tensor.dtype not in [torch_dtype(dtype) for dtype in dtypes]:
        raise UserError(f"{name} is {tensor.dtype}, it must be {' or '.join(dtypes)}")
    return tensor


def take_scales(read: Read, name: str) -> torch.Tensor:
    """fp16 scales, which some tools store in another type. Raises UserError where that would lose
    more than the last bit of numbers next to 0."""
    import torch

    found = take(read, name, "fp16", "bf16", "fp32")
    scales = found.to(torch.float16)
    lost = (scales.float() - found.float()).abs()
    if not bool((lost <= _SMALLEST).all()):
        raise UserError(f"{name} is {found.dtype} with numbers that fp16 has not; it must be fp16")
    return scales
