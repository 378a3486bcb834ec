"""What is recorded of a graph, the memory for it, and the rules that hold meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from inferplane.spec import MiB

from .errors import SimCaptureError
from .memory import Allocation, Book

if TYPE_CHECKING:
    from .driver import SimBoard
    from .streams import Work


class Pool:
    """Device memory of captured work. It grows to what is live at once, up to a limit, and is
    given back when the graphs and their back-end are gone."""

    def __init__(self, name: str, limit: int, device: Book) -> None:
        self.name, self.limit, self.device = name, limit, device
        self.used = 0
        self.reserved: list[Allocation] = []

    def take(self, op: str, size: int) -> Allocation:
        """Raises SimCaptureError beyond the limit, SimOutOfMemory where the device is full."""
        if self.used + size > self.limit:
            raise SimCaptureError(
                f"{op} allocates {size / MiB:.2f} MiB outside the pool while a graph is captured "
                f"on {self.name}: the pool has {(self.limit - self.used) / MiB:.2f} MiB of "
                f"{self.limit / MiB:.2f} MiB left (SIM_GRAPH_POOL_MB)"
            )
        held = sum(memory.bytes for memory in self.reserved)
        grown = self.device.take(max(0, self.used + size - held))
        if grown.bytes:
            self.reserved.append(grown)
        self.used += size
        return Allocation(self, size, False)

    def give_back(self, size: int) -> None:
        self.used -= size


class Capture:
    """Records launches on one board. Memory comes from the graphs' pool, and nothing waits."""

    def __init__(self, board: SimBoard, pool: Pool) -> None:
        self.board, self.pool = board, pool
        self.work: list[Work] = []

    def record(self, work: Work) -> None:
        self.work.append(work)

    def refuse(self, name: str, why: str) -> NoReturn:
        raise SimCaptureError(
            f"{name} {why}, which is not allowed while a graph is captured on {self.board.name}"
        )
