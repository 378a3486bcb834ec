"""A tensor of the device: torch sees its shape and device; its numbers lie in a host tensor."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .dtypes import poison
from .memory import Allocation

if TYPE_CHECKING:
    from .driver import SimBoard

_LARGE = 16 << 20  # bytes from which memory is zeroed by the system when it is first touched


class SimTensor(torch.Tensor):
    """raw: the host tensor that stands for device memory. Only work on a stream may touch it.
    memory: the allocation that it shares with its views. board: its device."""

    raw: torch.Tensor
    memory: Allocation
    board: SimBoard

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, raw: torch.Tensor, memory: Allocation, board: SimBoard) -> SimTensor:
        made: SimTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            raw.shape,
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            device=board.device,
        )
        made.raw, made.memory, made.board = raw, memory, board
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        from .dispatch import call

        return call(func, args, kwargs or {})

    def data_ptr(self) -> int:
        """The address in the simulated memory."""
        return self.raw.data_ptr()

    def tolist(self) -> Any:
        """Waits for the device."""
        return self.cpu().tolist()

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        """Waits for the device, as printing a device tensor does."""
        values = self.detach().cpu()
        text = torch._tensor_str._tensor_str(values, 7)
        return f"tensor({text}, device='{self.device}', dtype={self.dtype})"

    def __deepcopy__(self, memo: dict[int, Any]) -> SimTensor:
        copy = self.detach().clone()
        memo[id(self)] = copy
        return copy  # type: ignore[return-value]


def allocate(
    board: SimBoard,
    name: str,
    shape: Sequence[int],
    dtype: torch.dtype,
    stride: Sequence[int] | None = None,
) -> SimTensor:
    """New device memory, poisoned. Very large memory is not: it reads as zeros until written.

    name: the op that asks, for messages. Raises SimOutOfMemory.
    """
    board.check(name)
    count = _elements(shape, stride)
    size = count * dtype.itemsize
    large = size >= _LARGE
    if board.capture is not None:
        memory = board.capture.pool.take(name, size)
    else:
        memory = board.memory.take(size, fresh=large)
    with torch.inference_mode():
        if large:
            flat = torch.from_numpy(np.zeros(size, dtype=np.uint8)).view(dtype)
        else:
            flat = torch.empty(count, dtype=dtype)
            poison(flat)
        raw = flat.view(tuple(shape)) if stride is None else flat.as_strided(shape, stride)
    return SimTensor(raw, memory, board)


def _elements(shape: Sequence[int], stride: Sequence[int] | None) -> int:
    """Elements of the smallest storage that holds the shape."""
    if 0 in shape:
        return 0
    if stride is None:
        return prod(shape)
    return 1 + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))


def view_of(base: SimTensor, raw: torch.Tensor) -> SimTensor:
    """Another look at the same memory; an inference tensor where the base is one, as torch has."""
    with torch.inference_mode(base.is_inference()):
        return SimTensor(raw, base.memory, base.board)
