"""Collectives over gloo. A rank's part is sent when the call is made, since other ranks wait for
it; the result is written when the stream gets there, so it is poison until something waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist

from inferplane.spec import CollectiveRequest, Group

from .driver import SimBoard
from .dtypes import poison
from .faultplan import FaultPlan, Kind
from .launch import common_board, launch, new, raw


class SimCommunicator:
    """Needs an initialised default process group with gloo. Sub-groups are made when first used;
    all ranks of the world must then make the same ones in the same order."""

    def __init__(self, request: CollectiveRequest) -> None:
        self.groups: dict[tuple[int, ...], dist.ProcessGroup] = {}

    def all_reduce(self, x: torch.Tensor, group: Group) -> torch.Tensor:
        board, faults, mine = self._begin("all_reduce", x)
        work = self._send(faults, lambda to: dist.all_reduce(mine, group=to, async_op=True), group)
        self._end(board, "all_reduce", faults, work, lambda: mine, x)
        return x

    def all_gather(self, x: torch.Tensor, group: Group, axis: int = 0) -> torch.Tensor:
        board, faults, mine = self._begin("all_gather", x)
        shape = list(x.shape)
        shape[axis] *= group.size
        out = new(board, "sim.all_gather", shape, x.dtype)
        parts = [torch.empty_like(mine) for _ in group.ranks]
        work = self._send(
            faults, lambda to: dist.all_gather(parts, mine, group=to, async_op=True), group
        )
        self._end(board, "all_gather", faults, work, lambda: torch.cat(parts, axis), out)
        return out

    def reduce_scatter(self, x: torch.Tensor, group: Group, axis: int = 0) -> torch.Tensor:
        board, faults, mine = self._begin("reduce_scatter", x)
        if x.shape[axis] % group.size:
            raise ValueError(f"reduce_scatter: {x.shape[axis]} cannot be cut by {group.size}")
        shape = list(x.shape)
        shape[axis] //= group.size
        out = new(board, "sim.reduce_scatter", shape, x.dtype)
        work = self._send(faults, lambda to: dist.all_reduce(mine, group=to, async_op=True), group)
        self._end(
            board,
            "reduce_scatter",
            faults,
            work,
            lambda: mine.chunk(group.size, dim=axis)[group.rank],
            out,
        )
        return out

    def all_to_all(
        self, x: torch.Tensor, splits: Sequence[int], received: Sequence[int], group: Group
    ) -> torch.Tensor:
        board, faults, mine = self._begin("all_to_all", x)
        out = new(board, "sim.all_to_all", (sum(received), *x.shape[1:]), x.dtype)
        got = torch.empty(out.shape, dtype=x.dtype)
        sizes = list(received), list(splits)
        work = self._send(
            faults,
            lambda to: dist.all_to_all_single(got, mine, *sizes, group=to, async_op=True),
            group,
        )
        self._end(board, "all_to_all", faults, work, lambda: got, out)
        return out

    def broadcast(self, x: torch.Tensor, source: int, group: Group) -> None:
        board, faults, mine = self._begin("broadcast", x)
        root = group.ranks[source]
        work = self._send(
            faults, lambda to: dist.broadcast(mine, root, group=to, async_op=True), group
        )
        self._end(board, "broadcast", faults, work, lambda: mine, x)

    def barrier(self, group: Group) -> None:
        dist.barrier(group=self._group(group))

    # parts of every collective

    def _begin(self, op: str, x: torch.Tensor) -> tuple[SimBoard, dict[Kind, FaultPlan], Any]:
        """Does what the tensor waits for, and copies it."""
        name = f"sim.{op}"
        board = common_board(name, x)
        if board.capture is not None:
            board.capture.refuse(name, "talks to other processes")
        board.check(name)
        faults = board.driver.injector.strike("collective", dist.get_rank())
        board.stream.run_to(board.stream.launched)
        return board, faults, raw(x).clone(memory_format=torch.contiguous_format)

    def _send(
        self, faults: dict[Kind, FaultPlan], begin: Callable[[Any], Any], group: Group
    ) -> Any:
        """None where this rank hangs: it never sends its part."""
        to = self._group(group)
        return None if "hang" in faults else begin(to)

    def _end(
        self,
        board: SimBoard,
        op: str,
        faults: dict[Kind, FaultPlan],
        work: Any,
        result: Callable[[], torch.Tensor],
        out: torch.Tensor,
    ) -> None:
        """Queues the wait and the result. What was there before is gone."""
        to = raw(out)
        poison(to)

        def finish() -> None:
            while work is None:
                time.sleep(0.05)  # injected fault 'hang': until the process is ended
            if "slow" in faults:
                time.sleep(faults["slow"].delay_s)
            work.wait()
            to.copy_(result())

        launch(board, f"sim.{op}", finish, (), (out,))

    def _group(self, group: Group) -> dist.ProcessGroup:
        if group.ranks not in self.groups:
            self.groups[group.ranks] = dist.new_group(list(group.ranks), backend="gloo")
        return self.groups[group.ranks]
