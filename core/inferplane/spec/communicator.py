"""Collectives over a named group of ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from .mesh import Group

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class LinkTopology:
    """How devices are joined: links[i][j] names the link from device i to j, "" for none."""

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
