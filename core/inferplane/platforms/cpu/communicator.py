"""Collectives over gloo, through torch.distributed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist

from inferplane.spec import CollectiveRequest, Group


class GlooCommunicator:
    """Needs an initialised default process group. Sub-groups are made when first used; all ranks
    of the world must then make the same ones in the same order."""

    def __init__(self, request: CollectiveRequest) -> None:
        self.groups: dict[tuple[int, ...], dist.ProcessGroup] = {}

    def _group(self, group: Group) -> dist.ProcessGroup:
        if group.ranks not in self.groups:
            self.groups[group.ranks] = dist.new_group(list(group.ranks), backend="gloo")
        return self.groups[group.ranks]

    def all_reduce(self, x: torch.Tensor, group: Group) -> torch.Tensor:
        dist.all_reduce(x, group=self._group(group))
        return x

    def all_gather(self, x: torch.Tensor, group: Group, axis: int = 0) -> torch.Tensor:
        pieces = [torch.empty_like(x) for _ in group.ranks]
        dist.all_gather(pieces, x.contiguous(), group=self._group(group))
        return torch.cat(pieces, dim=axis)

    def reduce_scatter(self, x: torch.Tensor, group: Group, axis: int = 0) -> torch.Tensor:
        whole = self.all_reduce(x.clone(), group)
        return whole.chunk(group.size, dim=axis)[group.rank].contiguous()

    def all_to_all(
        self, x: torch.Tensor, splits: Sequence[int], received: Sequence[int], group: Group
    ) -> torch.Tensor:
        out = x.new_empty((sum(received), *x.shape[1:]))
        dist.all_to_all_single(
            out, x.contiguous(), list(received), list(splits), group=self._group(group)
        )
        return out

    def broadcast(self, x: torch.Tensor, source: int, group: Group) -> None:
        dist.broadcast(x, group.ranks[source], group=self._group(group))

    def barrier(self, group: Group) -> None:
        dist.barrier(group=self._group(group))
