"""Makes the Triton interpreter right for bfloat16 and fp8. Tests only.

The interpreter keeps bfloat16 as uint16: `tl.dot` multiplies those integers, and a conversion to
bfloat16 cuts bits off where every device rounds to the nearest. A conversion to fp8 that rounds up
to the next power of two loses the carry. Kernels widen before all else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle


def widened(handle: Any) -> Any:
    if handle.dtype.scalar != tl.bfloat16:
        return handle
    return TensorHandle((handle.data.astype(np.uint32) << 16).view(np.float32), tl.float32)


def rounded(values: np.ndarray) -> np.ndarray:
    """fp32 -> bits of bfloat16, to the nearest, ties to even."""
    bits = values.view(np.uint32)
    nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), (bits >> 16) | 0x40, nearest).astype(np.uint16)


def patch() -> Callable[[], None]:
    """Mends it, and gives the undo."""
    names = "create_dot", "cast_impl", "create_fp_to_fp"
    kept = {name: getattr(InterpreterBuilder, name) for name in names}
    dot, cast, convert = kept.values()

    def create_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        return dot(self, widened(a), widened(b), *rest)

    def cast_impl(self: Any, source: Any, to: Any) -> Any:
        if source.dtype.scalar == tl.float32 and to.scalar == tl.bfloat16:
            return TensorHandle(rounded(np.ascontiguousarray(source.data)), tl.bfloat16)
        return cast(self, source, to)

    def create_fp_to_fp(self: Any, source: Any, to: Any, rounding: Any) -> Any:
        if source.dtype.scalar == tl.float32 and to.scalar == tl.float8e4nv:
            values = torch.from_numpy(np.ascontiguousarray(source.data))
            bits = values.to(torch.float8_e4m3fn).view(torch.uint8).numpy()
            return TensorHandle(bits, tl.float8e4nv)
        return convert(self, source, to, rounding)

    def undo() -> None:
        for name, function in kept.items():
            setattr(InterpreterBuilder, name, function)

    for function in (create_dot, cast_impl, create_fp_to_fp):
        setattr(InterpreterBuilder, function.__name__, function)
    return undo
