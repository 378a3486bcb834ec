"""Makes the Triton interpreter right for bfloat16 and fp8. Tests only.

The interpreter keeps bfloat16 as uint16: `tl.dot` multiplies those integers, and a conversion to
bfloat16 cuts bits off where every device rounds to the nearest. A conversion to fp8 that rounds up
to the next power of two loses the carry. It has no `tl.dot_scaled` at all: here it is, by the
definition (OCP Microscaling Formats v1.0). Kernels widen before all else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from triton.language.semantic import TritonSemantic
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


def fp8(bits: np.ndarray) -> np.ndarray:
    """Bits of e4m3 -> fp32."""
    return torch.from_numpy(np.ascontiguousarray(bits)).view(torch.float8_e4m3fn).float().numpy()


def block_scaled(handle: Any, scale: Any, axis: int, packed: bool) -> np.ndarray:
    """fp32: numbers times their groups' powers of two. axis: the one that is multiplied over."""
    data = handle.data
    if packed:
        low, high = data & 15, data >> 4
        codes = np.stack((low, high), axis=axis + 1).reshape(
            [n * 2 if at == axis else n for at, n in enumerate(data.shape)]
        )
        table = np.array((0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0), np.float32)
        values = np.where(codes & 8, -table[codes & 7], table[codes & 7])
    elif data.dtype == np.uint8:
        values = fp8(data)
    else:
        values = widened(handle).data.astype(np.float32)
    if scale is None:
        return values
    factor = np.exp2(scale.data.astype(np.float32) - 127.0)
    factor = np.repeat(factor if axis == 1 else factor.T, 32, axis=axis)
    return values * factor


def patch() -> Callable[[], None]:
    """Mends it, and gives the undo."""
    names = "create_dot", "cast_impl", "create_fp_to_fp"
    kept = {name: getattr(InterpreterBuilder, name) for name in names}
    dot, cast, convert = kept.values()

    def create_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        return dot(self, widened(a), widened(b), *rest)

    def create_dot_scaled(
        self: Any, a: Any, a_scale: Any, a_format: Any, b: Any, b_scale: Any, b_format: Any,
        fast: Any, a_by_k: Any, b_by_k: Any, acc: Any,
    ) -> Any:  # fmt: skip
        left = block_scaled(a, a_scale, 1, a_format.name == "E2M1")
        right = block_scaled(b, b_scale, 0, b_format.name == "E2M1")
        return TensorHandle(left @ right + acc.data, tl.float32)

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

    dot_scaled = TritonSemantic.dot_scaled

    def with_names(self: Any, *given: Any) -> Any:
        """Before Triton 3.8 the interpreter passes names of formats as they are, and the function
        takes constants."""
        return dot_scaled(self, *(tl.constexpr(x) if isinstance(x, str) else x for x in given))

    def undo() -> None:
        for name, function in kept.items():
            setattr(InterpreterBuilder, name, function)
        del InterpreterBuilder.create_dot_scaled
        TritonSemantic.dot_scaled = dot_scaled

    for function in (create_dot, create_dot_scaled, cast_impl, create_fp_to_fp):
        setattr(InterpreterBuilder, function.__name__, function)
    if tuple(map(int, triton.__version__.split(".")[:2])) < (3, 8):
        TritonSemantic.dot_scaled = with_names
    return undo
