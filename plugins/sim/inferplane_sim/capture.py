"""What is recorded of a graph, and the rules that hold meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from inferplane.spec import MiB

from .errors import SimCaptureError, SimOutOfMemory
from .memory import Allocation, Book

if TYPE_CHECKING:
    from .driver import SimBoard
    from .streams import Work


class Capture:
    """Records launches on one board. Memory comes from the graphs' pool, and nothing waits."""

    def __init__(self, board: SimBoard, pool: Book) -> None:
        self.board, self.pool = board, pool
        self.work: list[Work] = []

    def record(self, work: Work) -> None:
        self.work.append(work)

    def take(self, name: str, size: int) -> Allocation:
        """Memory of the pool. An allocation that it has no room for would be outside of it."""
        try:
            return self.pool.take(size)
        except SimOutOfMemory:
            raise SimCaptureError(
                f"{name} allocates {size / MiB:.2f} MiB outside the pool while a graph is captured "
                f"on {self.board.name}: the pool has {self.pool.free / MiB:.2f} MiB of "
                f"{self.pool.total / MiB:.2f} MiB left (SIM_GRAPH_POOL_MB)"
            ) from None

    def refuse(self, name: str, why: str) -> NoReturn:
        raise SimCaptureError(
            f"{name} {why}, which is not allowed while a graph is captured on {self.board.name}"
        )
