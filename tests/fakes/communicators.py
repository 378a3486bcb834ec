"""Communicators with one mistake each."""

from __future__ import annotations

from typing import Any

import torch

from inferplane.platforms.cpu.communicator import GlooCommunicator


class GathersBackwards(GlooCommunicator):
    def all_gather(self, x: torch.Tensor, group: Any, axis: int = 0) -> torch.Tensor:
        pieces = super().all_gather(x, group, axis).chunk(group.size, dim=axis)
        return torch.cat(pieces[::-1], dim=axis)


class ReducesOthersOnly(GlooCommunicator):
    """The sum without the rank's own part."""

    def all_reduce(self, x: torch.Tensor, group: Any) -> torch.Tensor:
        own = x.clone()
        return super().all_reduce(x, group).sub_(own)


class ReducesACopy(GlooCommunicator):
    def all_reduce(self, x: torch.Tensor, group: Any) -> torch.Tensor:
        return super().all_reduce(x.clone(), group)


class ScattersItsInput(GlooCommunicator):
    """The sum is left in the input."""

    def reduce_scatter(self, x: torch.Tensor, group: Any, axis: int = 0) -> torch.Tensor:
        return self.all_reduce(x, group).chunk(group.size, dim=axis)[group.rank].contiguous()


class EvenSplits(GlooCommunicator):
    """Does not look at the splits."""

    def all_to_all(self, x: torch.Tensor, splits: Any, received: Any, group: Any) -> torch.Tensor:
        even = [x.shape[0] // group.size] * group.size
        return super().all_to_all(x, even, even, group)


class BroadcastsFirst(GlooCommunicator):
    def broadcast(self, x: torch.Tensor, source: int, group: Any) -> None:
        super().broadcast(x, 0, group)
