"""Times calls on a device: by its events where they tell time, else by the host's clock.

Calls differ in their data only. One after the other they are one round, so that what a call reads
was not left in a cache by the call before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

Call = Callable[[], object]

_LEAST_ROUNDS, _MOST_ROUNDS = 5, 2000


class Clock:
    """device: an `inferplane.spec.Device` that was activated."""

    def __init__(self, device: Any) -> None:
        self.device = device
        self.event = _timed_events(device)

    @property
    def source(self) -> str:
        return "events of the device" if self.event else "clock of the host"

    def times(self, calls: Sequence[Call], seconds: float, graph: Any = None) -> list[float]:
        """Seconds of one call, of many rounds. graph: a `GraphBackend` that captures a round."""
        one_round = captured(calls, graph) if graph else _in_turn(calls)
        one_round()
        self.device.synchronize()
        begin = time.perf_counter()
        one_round()
        self.device.synchronize()
        guess = max(time.perf_counter() - begin, 1e-6)
        rounds = min(_MOST_ROUNDS, max(_LEAST_ROUNDS, int(seconds / guess)))
        timed = self._by_events if self.event else self._by_host
        return [t / len(calls) for t in timed(one_round, rounds)]

    def _by_events(self, one_round: Call, rounds: int) -> list[float]:
        event = self.event
        assert event is not None
        marks = [(event(), event()) for _ in range(rounds)]
        for begin, end in marks:
            begin.record()
            one_round()
            end.record()
        self.device.synchronize()
        return [begin.elapsed_time(end) * 1e-3 for begin, end in marks]

    def _by_host(self, one_round: Call, rounds: int) -> list[float]:
        found = []
        for _ in range(rounds):
            begin = time.perf_counter()
            one_round()
            self.device.synchronize()
            found.append(time.perf_counter() - begin)
        return found


def captured(calls: Sequence[Call], graph: Any) -> Call:
    """One round as a graph. Every call ran before, so that nothing compiles in the capture."""
    for call in calls:
        call()
    replay: Call = graph.capture(_in_turn(calls)).replay
    return replay


def _in_turn(calls: Sequence[Call]) -> Callable[[], None]:
    def one_round() -> None:
        for call in calls:
            call()

    return one_round


def _timed_events(device: Any) -> Callable[[], Any] | None:
    import torch

    if device.torch_type == "cpu":
        return None
    made = getattr(torch.get_device_module(device.torch_type), "Event", None)
    try:
        if made is None or not hasattr(made(enable_timing=True), "elapsed_time"):
            return None
    except (TypeError, RuntimeError, NotImplementedError):
        return None
    return lambda: made(enable_timing=True)


def graphs_of(plan: Any) -> Any:
    """The device's capture of decode steps, or None."""
    from inferplane.plugins.binding import bind
    from inferplane.spec import GraphRequest

    choice = plan.resolver.choose(GraphRequest(device=plan.catalog.props, what="decode"))
    return bind(choice) if choice.found else None


def random_of(shape: Sequence[int], dtype: Any, device: Any, seed: int) -> Any:
    """Normal numbers, drawn on the device where torch has a generator for it."""
    import torch

    from inferplane.formats.dummy import generator_of

    generator = generator_of(device.torch_device)
    made = torch.empty(tuple(shape), dtype=dtype, device=generator.device)
    return made.normal_(generator=generator.manual_seed(seed)).to(device.torch_device)
