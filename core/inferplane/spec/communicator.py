"""Collectives over a named group of ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from .mesh import Group

if TYPE_CHECKING:
    import torch

    from .requests import CollectiveRequest


@dataclass(frozen=True, slots=True)
class LinkTopology:
    """How devices are joined: links[i][j] names the link from device i to j, "" for none. Indices
    are those of `Probe.devices`, all of them and no others."""

    links: tuple[tuple[str, ...], ...]


class Communicator(Protocol):
    """Collectives. All ranks of a group call in the same order; a hung call is ended by a watchdog.

    Tensors are on the device; calls queue on the current stream and do not synchronise.
    """

    def all_reduce(self, x: torch.Tensor, group: Group) -> torch.Tensor:
        """Sums `x` over the group, in place, and returns it."""

    def all_gather(self, x: torch.Tensor, group: Group, axis: int = 0) -> torch.Tensor:
        """Joins every rank's `x` along `axis`, in rank order."""

    def reduce_scatter(self, x: torch.Tensor, group: Group, axis: int = 0) -> torch.Tensor:
        """Sums over the group and keeps this rank's slice of `axis`."""

    def all_to_all(
        self, x: torch.Tensor, splits: Sequence[int], received: Sequence[int], group: Group
    ) -> torch.Tensor:
        """Sends splits[r] rows of axis 0 to rank r; receives received[r] rows from it."""

    def broadcast(self, x: torch.Tensor, source: int, group: Group) -> None:
        """Writes rank `source`'s `x` (a position in the group) on every rank."""

    def barrier(self, group: Group) -> None:
        """Returns when every rank of the group has called it."""


class TorchCommunicator:
    """(optional) A `Communicator` over `torch.distributed`: a platform derives from it and names
    its back-end, and overrides what its devices do better.

    Needs an initialised default process group. Sub-groups are made when first used; all ranks of
    the world must then make the same ones in the same order.
    """

    backend = ""

    def __init__(self, request: CollectiveRequest) -> None:
        self.request = request
        self._groups: dict[tuple[int, ...], Any] = {}

    def process_group(self, group: Group) -> Any:
        """torch's group of these ranks."""
        import torch.distributed as dist

        if group.ranks not in self._groups:
            self._groups[group.ranks] = dist.new_group(list(group.ranks), backend=self.backend)
        return self._groups[group.ranks]

    def all_reduce(self, x: torch.Tensor, group: Group) -> torch.Tensor:
        import torch.distributed as dist

        dist.all_reduce(x, group=self.process_group(group))
        return x

    def all_gather(self, x: torch.Tensor, group: Group, axis: int = 0) -> torch.Tensor:
        import torch
        import torch.distributed as dist

        joined = x.new_empty((group.size * x.shape[0], *x.shape[1:]))
        dist.all_gather_into_tensor(joined, x.contiguous(), group=self.process_group(group))
        return torch.cat(joined.chunk(group.size), dim=axis) if axis else joined

    def reduce_scatter(self, x: torch.Tensor, group: Group, axis: int = 0) -> torch.Tensor:
        import torch
        import torch.distributed as dist

        if x.shape[axis] % group.size:
            raise ValueError(f"reduce_scatter: {x.shape[axis]} cannot be cut by {group.size}")
        parts = x.chunk(group.size, dim=axis)
        mine = torch.empty_like(parts[0], memory_format=torch.contiguous_format)
        stacked = torch.cat(parts) if axis else x.contiguous()
        dist.reduce_scatter_tensor(mine, stacked, group=self.process_group(group))
        return mine

    def all_to_all(
        self, x: torch.Tensor, splits: Sequence[int], received: Sequence[int], group: Group
    ) -> torch.Tensor:
        import torch.distributed as dist

        out = x.new_empty((sum(received), *x.shape[1:]))
        dist.all_to_all_single(
            out, x.contiguous(), list(received), list(splits), group=self.process_group(group)
        )
        return out

    def broadcast(self, x: torch.Tensor, source: int, group: Group) -> None:
        import torch.distributed as dist

        dist.broadcast(x, group.ranks[source], group=self.process_group(group))

    def barrier(self, group: Group) -> None:
        import torch.distributed as dist

        dist.barrier(group=self.process_group(group))
