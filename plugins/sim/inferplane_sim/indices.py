"""Which arguments of torch's ops are indices, and the rule for their width."""

from __future__ import annotations

from typing import Any

import torch

from .errors import SimIndexError

INDEX_ARGUMENTS = {
    "aten::index": 1,
    "aten::_unsafe_index": 1,
    "aten::index_put": 1,
    "aten::index_put_": 1,
    "aten::_index_put_impl_": 1,
    "aten::_unsafe_index_put": 1,
    "aten::index_select": 2,
    "aten::index_copy": 2,
    "aten::index_copy_": 2,
    "aten::index_add": 2,
    "aten::index_add_": 2,
    "aten::index_fill": 2,
    "aten::index_fill_": 2,
    "aten::index_reduce_": 2,
    "aten::gather": 2,
    "aten::scatter": 2,
    "aten::scatter_": 2,
    "aten::scatter_add": 2,
    "aten::scatter_add_": 2,
    "aten::scatter_reduce": 2,
    "aten::scatter_reduce_": 2,
    "aten::embedding": 1,
    "aten::take": 1,
    "aten::put_": 1,
}
"""Op -> the position of its index argument."""


def refuse_wide(name: str, index: Any, wide: bool) -> None:
    """Raises SimIndexError for an int64 index on a device without the capability int64_index."""
    if wide:
        return
    for item in index if isinstance(index, list | tuple) else (index,):
        if isinstance(item, torch.Tensor) and item.dtype == torch.int64:
            raise SimIndexError(
                f"{name}: the index is int64; this device has 32-bit indices only (no capability "
                "int64_index): use int32"
            )


def widen(index: Any) -> Any:
    """int32 indices as int64, for host ops that take those only."""
    if isinstance(index, list | tuple):
        return [widen(item) for item in index]
    if isinstance(index, torch.Tensor) and index.dtype == torch.int32:
        return index.long()
    return index
