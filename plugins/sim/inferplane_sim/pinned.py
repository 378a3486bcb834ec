"""Host memory that was pinned by us. Copies from it are asynchronous."""

from __future__ import annotations

import weakref

import torch

_pinned: weakref.WeakValueDictionary[int, torch.UntypedStorage] = weakref.WeakValueDictionary()


def pin(tensor: torch.Tensor) -> torch.Tensor:
    """A pinned copy of a host tensor."""
    copy = tensor.clone()
    storage = copy.untyped_storage()
    _pinned[storage.data_ptr()] = storage
    return copy


def is_pinned(tensor: torch.Tensor) -> bool:
    """Whether the memory of a host tensor was pinned."""
    storage = tensor.untyped_storage()
    return _pinned.get(storage.data_ptr()) is not None
