"""From dtype names to torch's dtypes. The one module of the contract that imports torch: import it
inside functions only."""

import torch

from .device import DeviceProps

_DTYPES = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8_e4m3": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
    "fp8_e4m3fnuz": torch.float8_e4m3fnuz,
    "int64": torch.int64,
    "int32": torch.int32,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "bool": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def index_dtype(props: DeviceProps) -> torch.dtype:
    """Of tensors that index others: int64 where the device has `int64_index`, else int32."""
    return torch.int64 if "int64_index" in props.capabilities else torch.int32


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype called `name`. Raises ValueError for a type that torch cannot store."""
    if name not in _DTYPES:
        raise ValueError(f"torch has no dtype for {name!r}; it has {', '.join(_DTYPES)}")
    return _DTYPES[name]


def dtype_name(dtype: torch.dtype) -> str:
    """The name of a torch dtype. Raises ValueError for one that the contract does not name."""
    if dtype not in _NAMES:
        raise ValueError(
            f"{dtype} has no name in the contract; named: {', '.join(_NAMES.values())}"
        )
    return _NAMES[dtype]
