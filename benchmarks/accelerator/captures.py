"""How long graphs take to capture, measured from outside: the product does not time itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

_NAME = "capture"


class Captures:
    """While it is open, every capture of a decode step is timed, those of an engine that warms up
    too. whole: seconds of each with the first run, which compiles. recording: without it."""

    def __init__(self) -> None:
        self.whole: list[float] = []
        self.recording: list[float] = []

    def __enter__(self) -> Captures:
        from inferplane.runner.graphs import DecodeGraphs

        self._original = original = DecodeGraphs.capture

        def capture(graphs: Any, step: Any) -> Any:
            synchronize = _synchronize(graphs.device)
            backend = graphs.backend
            graphs.backend = _Recorder(backend, synchronize, self.recording)
            try:
                return timed(lambda: original(graphs, step), synchronize, self.whole)
            finally:
                graphs.backend = backend

        setattr(DecodeGraphs, _NAME, capture)
        return self

    def __exit__(self, *exception: object) -> None:
        from inferplane.runner.graphs import DecodeGraphs

        setattr(DecodeGraphs, _NAME, self._original)

    def figures(self) -> dict[str, Any]:
        return {
            "graphs": len(self.recording),
            "seconds": sum(self.whole),
            "recording_s": sum(self.recording),
            "slowest_s": max(self.whole, default=0.0),
        }


class _Recorder:
    """A `GraphBackend` that is timed."""

    def __init__(self, backend: Any, synchronize: Callable[[], None], seconds: list[float]) -> None:
        self.backend, self.synchronize, self.seconds = backend, synchronize, seconds

    def capture(self, run: Callable[[], None]) -> Any:
        return timed(lambda: self.backend.capture(run), self.synchronize, self.seconds)


def timed(call: Callable[[], Any], synchronize: Callable[[], None], seconds: list[float]) -> Any:
    """The call's result; what it took on the device is added to `seconds`, unless it raises."""
    synchronize()
    begin = time.perf_counter()
    result = call()
    synchronize()
    seconds.append(time.perf_counter() - begin)
    return result


def _synchronize(device: Any) -> Callable[[], None]:
    import torch

    if device.type == "cpu":
        return lambda: None
    made: Callable[[], None] = torch.get_device_module(device).synchronize
    return made
