"""Which slices of which checkpoint tensors a site reads, under tensor parallelism."""

from __future__ import annotations

from inferplane.errors import UserError
from inferplane.plugins.site import WeightNeed
from inferplane.spec import Group, WeightPart


def whole(name: str, path: str, shape: tuple[int, ...], dtype: str) -> WeightNeed:
    """A tensor that every rank reads whole."""
    offset = (0,) * len(shape)
    part = WeightPart(name=name, key=f"{path}.{name}", full_shape=shape, offset=offset, shape=shape)
    return WeightNeed(name, (part,), dtype)


def scales_need(keys: tuple[str, str]) -> WeightNeed:
    """ "kv_scales": fp32 [2], out of one number each for keys and values."""
    parts = tuple(
        WeightPart(name=name, key=key, full_shape=(1,), offset=(0,), shape=(1,), first=at)
        for at, (name, key) in enumerate(zip(("keys", "values"), keys, strict=True))
    )
    return WeightNeed("kv_scales", parts, "fp32")


def rows_need(
    name: str,
    parts: dict[str, int],
    inputs: int,
    dtype: str,
    sharding: str,
    group: Group,
    tied_to: str,
) -> WeightNeed:
    """The weight (inputs > 0) or bias (inputs 0) of a linear layer, all its parts in order.

    "column" cuts rows, "row" cuts inputs. A bias of a row-sharded layer is
    refused by the layers that would need it added once.
    """
    found, first = [], 0
    for path, rows in parts.items():
        full = (rows, inputs) if inputs else (rows,)
        offset, shape = [0] * len(full), list(full)
        if sharding == "column":
            offset[0], shape[0] = _cut(path, rows, group)
        elif sharding == "row" and inputs:
            offset[1], shape[1] = _cut(path, inputs, group)
        found.append(
            WeightPart(
                name=path.rsplit(".", 1)[-1],
                key=f"{path}.{name}",
                full_shape=full,
                offset=tuple(offset),
                shape=tuple(shape),
                first=first,
            )
        )
        first += shape[0]
    return WeightNeed(name, tuple(found), dtype, tied_to)


def _cut(path: str, size: int, group: Group) -> tuple[int, int]:
    if size % group.size:
        raise UserError(f"{path}: {size} cannot be cut into {group.size} equal parts (--tp)")
    share = size // group.size
    return share * group.rank, share
