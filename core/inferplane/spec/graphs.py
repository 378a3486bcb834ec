"""Capture and replay of device work (provisional)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from .requests import GraphRequest


class GraphHandle(Protocol):
    """A captured piece of work. Inputs and outputs are at the addresses of the capture."""

    def replay(self) -> None: ...


class GraphBackend(Protocol):
    """Captures work on one device. Graphs captured through one back-end may share memory."""

    def capture(self, run: Callable[[], None]) -> GraphHandle:
        """Runs `run` once while recording. `run` neither allocates outside the back-end's pool
        nor synchronises. Raises RuntimeError with the device's reason where it cannot."""


class TorchGraphs:
    """(optional) A `GraphBackend` over the graphs of torch's device module: a platform derives from
    it and names torch's class.

    torch_type: torch's name of the device type. graph_class: the class in
    `torch.get_device_module(torch_type)` that has `capture_begin`, `capture_end` and `replay`;
    the module has `graph(...)` and `graph_pool_handle()` too. All graphs share one pool: they must
    not be replayed at the same time, and the results of one are gone when another is replayed.
    """

    torch_type = ""
    graph_class = ""

    def __init__(self, request: GraphRequest) -> None:
        self.request = request
        self._pool: Any = None

    def capture(self, run: Callable[[], None]) -> GraphHandle:
        import torch

        module: Any = torch.get_device_module(self.torch_type)
        if self._pool is None:
            self._pool = module.graph_pool_handle()
        graph: GraphHandle = getattr(module, self.graph_class)()
        first: list[BaseException] = []
        try:
            with module.graph(graph, pool=self._pool):
                try:
                    run()
                except BaseException as error:
                    first.append(error)
                    raise
        except Exception as error:
            # the end of a broken capture raises once more; the first error has the reason
            reason = first[0] if first else error
            raise RuntimeError(
                f"{self.graph_class} cannot capture: {type(reason).__name__}: {reason}"
            ) from reason
        return graph
