"""Which tensors a weight of a scheme is made of, and which slices of them a rank reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

from inferplane.errors import UserError
from inferplane.plugins.site import WeightNeed
from inferplane.spec import Group, QuantScheme, WeightPart

from .parts import rows_need


@dataclass(frozen=True, slots=True)
class Axis:
    """Of a canonical tensor: one entry for every `by` outputs ("rows") or inputs ("columns"), or
    `by` entries whatever the size ("fixed")."""

    kind: Literal["rows", "columns", "fixed"]
    by: int = 1

    def size(self, outputs: int, inputs: int) -> int:
        if self.kind == "fixed":
            return self.by
        return ceil((outputs if self.kind == "rows" else inputs) / self.by)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A canonical tensor of a scheme. dtype: as it is kept."""

    name: str
    dtype: str
    axes: tuple[Axis, ...]

    def shape(self, outputs: int, inputs: int) -> tuple[int, ...]:
        return tuple(axis.size(outputs, inputs) for axis in self.axes)


def tensors_of(scheme: QuantScheme) -> list[Tensor]:
    """As `spec.quant` lists them, for one part."""
    row, one = Axis("rows"), (Axis("fixed"),)
    shared = {
        "tensor": one,
        "channel": (row,),
        "group": (row, Axis("columns", scheme.group or 1)),
        "block": (Axis("rows", scheme.block[0] or 1), Axis("columns", scheme.block[1] or 1)),
    }[scheme.granularity]
    found = [
        Tensor("weight", scheme.storage, (row, Axis("columns", scheme.packed))),
        Tensor("scale", scheme.scale_storage, shared),
    ]
    if scheme.zero_point:
        found.append(Tensor("zero", "uint8", shared))
    if scheme.global_scale:
        found.append(Tensor("global_scale", "fp32", one))
    if scheme.reordered:
        found.append(Tensor("order", "int32", (Axis("columns"),)))
    if scheme.activation and not scheme.dynamic:
        found.append(Tensor("input_scale", "fp32", one))
    return found


def can_fuse(schemes: Mapping[str, QuantScheme], parts: Mapping[str, int], shards: int) -> bool:
    """Whether parts can be one weight: one scheme, no order of their own, and whole blocks."""
    (first, *others) = schemes.values()
    if any(scheme != first for scheme in others) or (first.reordered and others):
        return False
    high = first.block[0] if first.granularity == "block" else 1
    return all(rows // shards % high == 0 for rows in list(parts.values())[:-1])


def scheme_needs(
    scheme: QuantScheme,
    parts: dict[str, int],
    inputs: int,
    dtype: str,
    sharding: str,
    group: Group,
    tied_to: str = "",
) -> Iterator[WeightNeed]:
    """Every tensor of a linear layer's weight. dtype: of one that is not quantized. Raises
    UserError where a group or block would have to be cut."""
    if not scheme.quantized:
        yield rows_need("weight", parts, inputs, dtype, sharding, group, tied_to)
        return
    if scheme.reordered and sharding == "row" and group.size > 1:
        raise UserError(f"{next(iter(parts))}: reordered inputs cannot be cut (--tp)")
    for tensor in tensors_of(scheme):
        found, first = [], 0
        for path, outputs in parts.items():
            part = _part(tensor, path, outputs, inputs, sharding, group)
            found.append(replace(part, first=first))
            first += part.shape[0]
        yield WeightNeed(tensor.name, tuple(found), tensor.dtype)


def _part(
    tensor: Tensor, path: str, outputs: int, inputs: int, sharding: str, group: Group
) -> WeightPart:
    cut = {"column": "rows", "row": "columns"}.get(sharding)
    full = tensor.shape(outputs, inputs)
    offset, shape = [0] * len(full), list(full)
    for at, axis in enumerate(tensor.axes):
        if axis.kind != cut or group.size == 1:
            continue
        whole = outputs if axis.kind == "rows" else inputs
        if whole % group.size or whole // group.size % axis.by:
            what = f"{whole} {'outputs' if axis.kind == 'rows' else 'inputs'}"
            raise UserError(
                f"{path}: {what} in groups of {axis.by} cannot be cut into {group.size} equal "
                "parts (--tp)"
            )
        shape[at] = full[at] // group.size
        offset[at] = shape[at] * group.rank
    return WeightPart(
        name=path.rsplit(".", 1)[-1],
        key=f"{path}.{tensor.name}",
        full_shape=full,
        offset=tuple(offset),
        shape=tuple(shape),
        dtype=tensor.dtype,
    )
