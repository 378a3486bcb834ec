"""Arguments of torch's ops: their leaves, their device, and what they are for host and shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from .driver import SimBoard, driver
from .tensor import SimTensor


def leaves(values: Any) -> Iterator[Any]:
    """Arguments, with lists opened."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from leaves(value)
        else:
            yield value


def swap(value: Any, change: Callable[[Any], Any]) -> Any:
    """The value with every leaf changed."""
    if isinstance(value, list | tuple):
        return [swap(item, change) for item in value]
    return change(value)


def on_host(value: Any) -> Any:
    """For the work: device memory as it is then; a host scalar as it is now."""
    if isinstance(value, SimTensor):
        return value.raw
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return value


def as_meta(value: Any) -> Any:
    """For shapes alone."""
    if isinstance(value, SimTensor):
        raw = value.raw
        return torch.empty_strided(raw.shape, raw.stride(), dtype=raw.dtype, device="meta")
    if isinstance(value, torch.device):
        return torch.device("meta")
    return value


def key_of(value: Any) -> Any:
    """What the shape of a result can depend on. Raises TypeError for what cannot be a key."""
    if isinstance(value, list | tuple):
        return tuple(key_of(item) for item in value)
    if isinstance(value, SimTensor):
        raw = value.raw
        return raw.shape, raw.stride(), raw.dtype
    if isinstance(value, torch.Tensor):
        return "host", value.dtype
    return type(value), value


def asked_board(device: torch.device) -> SimBoard:
    """The board of a device; without an index, the current one."""
    return driver().current() if device.index is None else driver().board(device.index)


def board_of(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> SimBoard:
    """The device of an op. Raises for tensors of different devices. A host scalar is allowed."""
    found: SimBoard | None = None
    host: torch.Tensor | None = None
    for value in leaves((*args, *kwargs.values())):
        if isinstance(value, SimTensor):
            if found is not None and value.board is not found:
                raise RuntimeError(
                    f"{name}: expected all tensors on one device, found {found.name} and "
                    f"{value.board.name}"
                )
            found = value.board
        elif isinstance(value, torch.Tensor) and value.dim() > 0:
            host = value
    if found is None:
        return asked_board(kwargs.get("device") or torch.device("sim"))
    if host is not None:
        raise RuntimeError(
            f"{name}: expected all tensors on one device, found {found.name} and {host.device}"
        )
    return found
