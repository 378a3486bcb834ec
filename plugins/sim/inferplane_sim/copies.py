"""Copies between the host and the device, between devices, and within one."""

from __future__ import annotations

from typing import Any

import torch

from .arguments import asked_board
from .dtypes import check_dtypes, poison
from .pinned import is_pinned
from .streams import Event, Work
from .tensor import SimTensor, allocate


def copy_(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`target.copy_(source, non_blocking)`."""
    target, source = args[0], args[1]
    blocking = not (args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
    if not isinstance(source, SimTensor):
        _from_host(target, source, blocking)
    elif not isinstance(target, SimTensor):
        _to_host(target, source, blocking)
    elif source.board is target.board:
        _within(target, source)
    else:
        _across(target, source)
    return target


def to_copy(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """`source.to(device, dtype)`, which is always a copy here."""
    source = args[0]
    device = kwargs.get("device") or source.device
    blocking = not kwargs.get("non_blocking", False)
    dtype = kwargs.get("dtype") or source.dtype
    if device.type == "sim":
        target: torch.Tensor = allocate(
            asked_board(device), "aten::_to_copy", source.shape, dtype, _dense(source)
        )
    else:
        target = torch.empty_strided(source.shape, _dense(source), dtype=dtype, device=device)
    copy_(func, (target, source), {"non_blocking": not blocking})
    return target


def _dense(source: torch.Tensor) -> tuple[int, ...]:
    """The strides that torch gives a copy: those of the source where it has no holes."""
    host = source.raw if isinstance(source, SimTensor) else source
    return torch.empty_like(host, device="meta").stride()


def _from_host(target: SimTensor, source: torch.Tensor, blocking: bool) -> None:
    """Pinned memory is read when the copy runs. Other memory is staged at once."""
    board = target.board
    if source.dtype != target.dtype:
        check_dtypes("aten::copy_", (target,), board.dtypes, board.name)
    scalar = source.dim() == 0
    staged = not is_pinned(source)
    if board.capture is not None and not scalar and staged:
        board.capture.refuse("copy from the host", "reads memory that is not pinned")
    board.check("copy from the host", waits=blocking and not scalar)
    host = source.clone() if staged and not (blocking and not scalar) else source
    raw = target.raw
    target.memory.fresh = False
    board.launch(Work("copy from the host", lambda: raw.copy_(host), (raw,), raw.nbytes))
    if blocking and not scalar:
        board.stream.run_to(board.stream.launched)


def _to_host(target: torch.Tensor, source: SimTensor, blocking: bool) -> None:
    """Until the copy has run, the host's tensor holds poison."""
    board = source.board
    board.check("copy to the host", waits=blocking)
    poison(target)
    raw = source.raw
    board.launch(Work("copy to the host", lambda: target.copy_(raw), (), raw.nbytes))
    if blocking:
        board.stream.run_to(board.stream.launched)


def _within(target: SimTensor, source: SimTensor) -> None:
    board = target.board
    if target.dtype != source.dtype:
        check_dtypes("aten::copy_", (target, source), board.dtypes, board.name)
    to, source_raw = target.raw, source.raw
    torch.broadcast_shapes(to.shape, source_raw.shape)
    target.memory.fresh = False
    moved = to.nbytes + source_raw.nbytes
    board.launch(Work("aten::copy_", lambda: to.copy_(source_raw), (to,), moved))


def _across(target: SimTensor, source: SimTensor) -> None:
    """On the current streams of both devices: each waits for the other, as in torch."""
    for board in (source.board, target.board):
        if board.capture is not None:
            board.capture.refuse("copy between devices", "uses a second device")
    ready = source.board.stream.record_event()
    target.board.stream.wait_event(ready)
    to, source_raw = target.raw, source.raw
    target.memory.fresh = False
    target.board.launch(
        Work("copy between devices", lambda: to.copy_(source_raw), (to,), to.nbytes)
    )
    done = Event()
    done.record(target.board.stream)
    source.board.stream.wait_event(done)
