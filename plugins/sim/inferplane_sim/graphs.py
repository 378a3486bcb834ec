"""Graph capture: launches are recorded instead of done, and replayed on the same addresses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from inferplane.spec import GraphRequest, MiB

from .capture import Capture, Pool
from .driver import SimBoard, driver
from .streams import Work


class Graph:
    """Recorded work. It keeps the memory that it uses, and the pool."""

    def __init__(self, board: SimBoard, work: list[Work], pool: Pool) -> None:
        self.board, self.work, self.pool = board, work, pool

    def replay(self) -> None:
        """Queues all of it on the current stream, as one launch for the latency model."""
        self.board.check("graph.replay")
        for at, work in enumerate(self.work):
            self.board.launch(replace(work, fails=False, poisons=False, latency=at == 0))


class Graphs:
    """Captures on one device. All its graphs share one pool."""

    def __init__(self, request: GraphRequest) -> None:
        board = driver().board(request.device.index)
        limit = board.driver.settings.graph_pool_mb * MiB
        self.board, self.pool = board, Pool(board.name, limit, board.memory)

    def capture(self, run: Callable[[], None]) -> Graph:
        board = self.board
        board.check("graph.capture", waits=True)
        capture = board.capture = Capture(board, self.pool)
        try:
            run()
        finally:
            board.capture = None
        return Graph(board, capture.work, self.pool)
