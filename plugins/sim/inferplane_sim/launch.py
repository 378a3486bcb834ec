"""How this package's own kernels reach the device: one piece of work each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from .driver import SimBoard
from .dtypes import check_dtypes
from .streams import Work
from .tensor import SimTensor, allocate


def common_board(name: str, *tensors: torch.Tensor) -> SimBoard:
    """The one device of all tensors. Raises for the host's, for another one's, and for dtypes
    that the device does not compute with."""
    first = tensors[0]
    for tensor in tensors:
        if not isinstance(tensor, SimTensor) or not isinstance(first, SimTensor):
            raise RuntimeError(f"{name}: a tensor is on {tensor.device}, not on the device")
        if tensor.board is not first.board:
            raise RuntimeError(f"{name}: tensors are on {first.device} and {tensor.device}")
    assert isinstance(first, SimTensor)
    check_dtypes(name, tensors, first.board.dtypes, first.board.name)
    return first.board


def raw(tensor: torch.Tensor) -> torch.Tensor:
    """The host tensor that stands for device memory. To be touched inside `run` only."""
    assert isinstance(tensor, SimTensor)
    return tensor.raw


def new(board: SimBoard, name: str, shape: Sequence[int], dtype: torch.dtype) -> SimTensor:
    """Memory for a result."""
    return allocate(board, name, shape, dtype)


def launch(
    board: SimBoard,
    name: str,
    run: Callable[[], object],
    reads: Sequence[torch.Tensor],
    writes: Sequence[torch.Tensor],
    partly: Sequence[torch.Tensor] = (),
) -> None:
    """Queues `run` on the current stream.

    writes: written whole. partly: written in places that depend on data, as a cache is.
    """
    for tensor in (*writes, *partly):
        assert isinstance(tensor, SimTensor)
        tensor.memory.fresh = False
    written = tuple(raw(tensor) for tensor in writes)
    moved = sum(raw(t).nbytes for t in reads) + sum(t.nbytes for t in written)
    board.launch(Work(name, run, written, moved))
