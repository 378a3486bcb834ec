"""Data types by name. The contract never passes a `torch.dtype` where data must stay data."""

from math import prod

DTYPE_BITS: dict[str, int] = {
    "fp64": 64,
    "fp32": 32,
    "bf16": 16,
    "fp16": 16,
    "fp8_e4m3": 8,
    "fp8_e5m2": 8,
    "fp8_e4m3fnuz": 8,
    "ue8m0": 8,
    "fp4_e2m1": 4,
    "nf4": 4,
    "int64": 64,
    "int32": 32,
    "int8": 8,
    "uint8": 8,
    "int4": 4,
    "uint4": 4,
    "bool": 8,
}
"""Bits of storage an element takes."""


def dtype_bytes(dtype: str) -> float:
    """Bytes of one element; 0.5 for four-bit types. Raises ValueError for an unknown name."""
    if dtype not in DTYPE_BITS:
        raise ValueError(f"no dtype {dtype!r}; known: {', '.join(DTYPE_BITS)}")
    return DTYPE_BITS[dtype] / 8


def size_in_bytes(shape: tuple[int, ...], dtype: str) -> int:
    """Bytes of a dense tensor of `shape`, rounded up to a whole byte."""
    return (prod(shape) * int(dtype_bytes(dtype) * 8) + 7) // 8
