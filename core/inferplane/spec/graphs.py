"""Capture and replay of device work (provisional)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class GraphHandle(Protocol):
    """A captured piece of work. Inputs and outputs are at the addresses of the capture."""

    def replay(self) -> None: ...


class GraphBackend(Protocol):
    """Captures work on one device. Graphs captured through one back-end may share memory."""

    def capture(self, run: Callable[[], None]) -> GraphHandle:
        """Runs `run` once while recording. `run` neither allocates outside the back-end's pool
        nor synchronises. Raises RuntimeError with the device's reason where it cannot."""
