"""Queues of work. Nothing runs until something waits for it, so a missing wait shows every time.

A stream counts what was launched and what is done. An event is a place in that count. Waiting runs
the stream up to that place; work that waits for an event of another stream runs that one first.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING

import torch

from .errors import SimCaptureError, SimDeviceLost, SimKernelError

if TYPE_CHECKING:
    from .driver import SimBoard

_QUERY_RUNS = 64  # pieces of work that the device gets done between two looks at it
_MOST_BYTES = 256 << 20  # results that may wait, so that the host's memory stays flat


@dataclass(slots=True)
class Work:
    """One piece of work. name: the op's, for messages. run: on tensors of the host.

    writes: what it writes, poisoned by an injected fault. moved: bytes read and written.
    kernel: counted as a launch. latency: takes the time of a launch. fails, poisons: faults that
    were injected.
    """

    name: str
    run: Callable[[], object]
    writes: tuple[torch.Tensor, ...] = ()
    moved: int = 0
    kernel: bool = True
    latency: bool = True
    fails: bool = False
    poisons: bool = False

    @property
    def result_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.writes)


class Stream:
    """An ordered queue of one device. `priority` is taken and not used."""

    def __init__(self, board: SimBoard, priority: int = 0) -> None:
        self.board = board
        self.priority = priority
        self.waiting: deque[Work] = deque()
        self.launched = 0
        self.done = 0
        self.held = 0  # bytes of waiting results
        self.lock = RLock()

    @property
    def device(self) -> torch.device:
        return self.board.device

    def put(self, work: Work) -> None:
        """Queues work; when too much waits, the oldest half is done."""
        with self.lock:
            self.waiting.append(work)
            self.launched += 1
            self.held += work.result_bytes
            if not self.board.asynchronous:
                self.run_to(self.launched)
            elif len(self.waiting) >= self.board.queue_depth or self.held > _MOST_BYTES:
                self.run_to(self.launched - len(self.waiting) // 2)

    def run_to(self, ticket: int) -> None:
        """Does all work up to a count. Raises what failed; the rest of the queue is then dropped,
        since it was made for results that there are not."""
        with self.lock, torch.inference_mode():
            try:
                while self.done < ticket and self.waiting:
                    work = self.waiting.popleft()
                    self.held -= work.result_bytes
                    execute(work)
                    self.board.clock.spend(work)
                    self.done += 1
            except Exception:
                self.drop()
                raise
            finally:
                self.board.clock.settle()

    def drop(self) -> None:
        """Forgets work that was not done."""
        self.waiting.clear()
        self.done, self.held = self.launched, 0

    def synchronize(self) -> None:
        self.board.check("stream.synchronize", waits=True)
        self.run_to(self.launched)

    def query(self) -> bool:
        """Whether all is done. The device works on after the answer was given."""
        return self._query(self.launched)

    def _query(self, ticket: int) -> bool:
        if self.done >= ticket:
            return True
        self.run_to(min(ticket, self.done + _QUERY_RUNS))
        return False

    def record_event(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        event.wait(self)

    def wait_stream(self, stream: Stream) -> None:
        self.wait_event(stream.record_event())

    def __enter__(self) -> Stream:
        self.board.enter_stream(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.board.leave_stream()


def execute(work: Work) -> None:
    """Runs one piece of work, with the faults that it was given."""
    if work.fails:
        raise SimKernelError(f"{work.name} failed: injected fault 'kernel'")
    try:
        work.run()
    except (SimKernelError, SimDeviceLost, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise SimKernelError(f"{work.name} failed: {type(error).__name__}: {error}") from error
    if work.poisons:
        for tensor in work.writes:
            if tensor.is_floating_point():
                tensor.fill_(float("nan"))


class Event:
    """A place in a stream. Not recorded yet: passed, as on real devices."""

    def __init__(self, enable_timing: bool = False, **_: object) -> None:
        self.stream: Stream | None = None
        self.ticket = 0
        self.timed = enable_timing
        self.time_s = 0.0

    def record(self, stream: Stream | None = None) -> None:
        """After all that was launched on the stream, or on the current one of the device."""
        from .driver import driver

        stream = stream or driver().current().stream
        if stream.board.capture is not None:
            return  # recorded work is replayed in order, so the order holds
        if self.timed:
            stream.put(Work("event.record", self._stamp, kernel=False))
        self.stream, self.ticket = stream, stream.launched

    def _stamp(self) -> None:
        self.time_s = time.perf_counter()

    def wait(self, stream: Stream | None = None) -> None:
        """Later work of the stream begins when the event was passed."""
        from .driver import driver

        stream = stream or driver().current().stream
        if self.stream is None or self.stream is stream or stream.board.capture is not None:
            return
        source, ticket = self.stream, self.ticket
        stream.put(Work("event.wait", lambda: source.run_to(ticket), kernel=False))

    def synchronize(self) -> None:
        if self.stream is not None:
            self.stream.board.check("event.synchronize", waits=True)
            self.stream.run_to(self.ticket)

    def query(self) -> bool:
        if self.stream is None:
            return True
        if self.stream.board.capture is not None:
            raise SimCaptureError("event.query is not allowed while a graph is captured")
        return self.stream._query(self.ticket)

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds between two events that were made with enable_timing and were passed."""
        if not (self.timed and end.timed and self.time_s and end.time_s):
            raise RuntimeError("both events must be timed, recorded and passed")
        return (end.time_s - self.time_s) * 1e3


class Clock:
    """Time that the modelled device takes: a sleep a launch and a byte. Off when both are 0."""

    def __init__(self, latency_us: float, bandwidth_gb_s: float) -> None:
        self.launch_s = latency_us * 1e-6
        self.byte_s = 1e-9 / bandwidth_gb_s if bandwidth_gb_s else 0.0
        self.owed_s = 0.0

    def spend(self, work: Work) -> None:
        if work.kernel:
            self.owed_s += self.launch_s * work.latency + work.moved * self.byte_s

    def settle(self) -> None:
        """Sleeps what is owed. Sleeps are long enough not to be lost in the timer's steps."""
        if self.owed_s > 1e-4:
            begin = time.perf_counter()
            time.sleep(self.owed_s)
            self.owed_s -= time.perf_counter() - begin
