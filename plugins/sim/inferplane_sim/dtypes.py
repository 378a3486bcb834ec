"""Which torch dtypes the device computes with, and what its memory holds before it is written."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from inferplane.spec import DeviceProps
from inferplane.spec.torch_types import torch_dtype

from .errors import SimDtypeError

_ALWAYS = frozenset({torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})
_TORCH_HAS = {"fp64", "fp32", "bf16", "fp16", "fp8_e4m3", "fp8_e5m2", "fp8_e4m3fnuz"}
_POISON = {
    torch.uint8: 0xA5,
    torch.int8: -91,
    torch.int16: -23131,
    torch.int32: -1515870811,
    torch.int64: -6510615555426900571,
}


def compute_dtypes(props: DeviceProps) -> frozenset[torch.dtype]:
    """Integers always; of the others, what the profile names. Any dtype can be stored."""
    return _ALWAYS | {torch_dtype(name) for name in props.dtypes & _TORCH_HAS}


def check_dtypes(
    name: str, tensors: Iterable[torch.Tensor], allowed: frozenset[torch.dtype], device: str
) -> None:
    """Raises SimDtypeError for an op on a dtype that the device lacks."""
    for tensor in tensors:
        if tensor.dtype not in allowed:
            floats = sorted(str(d).removeprefix("torch.") for d in allowed - _ALWAYS)
            raise SimDtypeError(
                f"{name} on {tensor.dtype}: {device} computes with {', '.join(floats)}"
            )


def poison(tensor: torch.Tensor) -> None:
    """What nobody has written yet: not a number, True, or 0xA5 in every byte (no valid index)."""
    with torch.inference_mode():
        tensor.fill_(_POISON.get(tensor.dtype, 1 if tensor.dtype == torch.bool else float("nan")))
