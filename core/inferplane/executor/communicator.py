"""A communicator whose calls show on the rank's record, so that a hung one can be named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from inferplane.activity import Activity
from inferplane.spec import Communicator, Group

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


class WatchedCommunicator:
    """The collectives of `inner`. While one runs, the record says, for example,
    "forward layer 3 / all_reduce group tp"."""

    def __init__(self, inner: Communicator, activity: Activity) -> None:
        self.inner, self.activity = inner, activity

    def _watch(self, op: str, group: Group, call: Callable[[], T]) -> T:
        """On an error the mark stays, for the report."""
        activity, before = self.activity, self.activity.what
        activity.collective = f"{op} group {group.name}"
        activity.collectives += 1
        activity.enter(f"{activity.where()} / {activity.collective}")
        found = call()
        activity.enter(before)
        return found

    def all_reduce(self, x: torch.Tensor, group: Group) -> torch.Tensor:
        return self._watch("all_reduce", group, lambda: self.inner.all_reduce(x, group))

    def all_gather(self, x: torch.Tensor, group: Group, axis: int = 0) -> torch.Tensor:
        return self._watch("all_gather", group, lambda: self.inner.all_gather(x, group, axis))

    def reduce_scatter(self, x: torch.Tensor, group: Group, axis: int = 0) -> torch.Tensor:
        return self._watch(
            "reduce_scatter", group, lambda: self.inner.reduce_scatter(x, group, axis)
        )

    def all_to_all(
        self, x: torch.Tensor, splits: Sequence[int], received: Sequence[int], group: Group
    ) -> torch.Tensor:
        return self._watch(
            "all_to_all", group, lambda: self.inner.all_to_all(x, splits, received, group)
        )

    def broadcast(self, x: torch.Tensor, source: int, group: Group) -> None:
        self._watch("broadcast", group, lambda: self.inner.broadcast(x, source, group))

    def barrier(self, group: Group) -> None:
        self._watch("barrier", group, lambda: self.inner.barrier(group))
