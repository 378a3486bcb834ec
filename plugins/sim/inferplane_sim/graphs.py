"""Graph capture: launches are recorded instead of done, and replayed on the same addresses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from inferplane.spec import GraphRequest, MiB

from .capture import Capture
from .driver import SimBoard, driver
from .memory import Allocation, Book
from .streams import Work


class Graph:
    """Recorded work. It keeps the memory that it uses, and the pool."""

    def __init__(self, board: SimBoard, work: list[Work], pool: Allocation) -> None:
        self.board, self.work, self.pool = board, work, pool

    def replay(self) -> None:
        """Queues all of it on the current stream, as one launch for the latency model."""
        self.board.check("graph.replay")
        for at, work in enumerate(self.work):
            self.board.launch(replace(work, fails=False, poisons=False, latency=at == 0))


class Graphs:
    """Captures on one device. All its graphs share one pool, which is a part of device memory."""

    def __init__(self, request: GraphRequest) -> None:
        self.index = request.device.index
        self._pool: tuple[Book, Allocation] | None = None

    def capture(self, run: Callable[[], None]) -> Graph:
        board = driver().board(self.index)
        board.check("graph.capture", waits=True)
        pool, memory = self._open_pool(board)
        capture = Capture(board, pool)
        board.capture = capture
        try:
            run()
        finally:
            board.capture = None
        return Graph(board, capture.work, memory)

    def _open_pool(self, board: SimBoard) -> tuple[Book, Allocation]:
        """Reserved when the first graph is captured. Gives the pool, and its device memory."""
        if self._pool is None:
            size = board.driver.settings.graph_pool_mb * MiB
            memory = board.memory.take(size)
            pool = Book(f"the graph pool of {board.name}", size, board.driver.injector)
            self._pool = pool, memory
        return self._pool
