"""The driver of this process: its boards (devices), their memory, streams and planned faults.

There is one a process, as with a real driver, made when it is first asked for. Nothing here imports
torch before a stream is needed, so that memory can be asked for while planning.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from inferplane.spec import DeviceProps, MiB

from .config import SimSettings, load_settings, split
from .faultplan import FaultPlan, Kind, parse_faults
from .faults import Injector
from .memory import Book
from .profiles import profiles

if TYPE_CHECKING:
    import torch

    from .capture import Capture
    from .streams import Clock, Stream, Work


def props_of(settings: SimSettings) -> DeviceProps:
    """The profile, with what the settings change."""
    props = profiles()[settings.profile]
    capabilities = props.capabilities if settings.graphs else props.capabilities - {"graph_capture"}
    memory = props.memory_bytes if settings.memory_mb is None else settings.memory_mb * MiB
    return replace(
        props,
        memory_bytes=memory,
        dtypes=frozenset(split(settings.dtypes)) or props.dtypes,
        capabilities=capabilities,
    )


class SimBoard:
    """One device. capture: what records launches instead of queueing them, or None."""

    def __init__(self, driver: Driver, props: DeviceProps) -> None:
        settings = driver.settings
        self.driver, self.props, self.index = driver, props, props.index
        self.name = f"sim:{props.index}"
        self.memory = Book(self.name, props.memory_bytes, driver.injector)
        self.asynchronous, self.queue_depth = settings.asynchronous, settings.queue_depth
        self.capture: Capture | None = None
        self.wide_index = "int64_index" in props.capabilities
        self._local = threading.local()

    @cached_property
    def device(self) -> torch.device:
        import torch

        return torch.device("sim", self.index)

    @cached_property
    def clock(self) -> Clock:
        from .streams import Clock

        return Clock(self.driver.settings.latency_us, self.driver.settings.bandwidth_gb_s)

    @cached_property
    def dtypes(self) -> frozenset[torch.dtype]:
        """Dtypes to compute with: the profile's, and integers, which every device has."""
        from .dtypes import compute_dtypes

        return compute_dtypes(self.props)

    # streams

    @cached_property
    def default_stream(self) -> Stream:
        return self.new_stream()

    @cached_property
    def streams(self) -> list[Stream]:
        return []

    def new_stream(self, priority: int = 0) -> Stream:
        from .streams import Stream

        stream = Stream(self, priority)
        self.streams.append(stream)
        return stream

    def _entered(self) -> list[Stream]:
        if not hasattr(self._local, "entered"):
            self._local.entered = []
        return self._local.entered

    @property
    def stream(self) -> Stream:
        """The current stream of this thread."""
        entered = self._entered()
        return entered[-1] if entered else self.default_stream

    def enter_stream(self, stream: Stream) -> None:
        self._entered().append(stream)

    def leave_stream(self) -> None:
        self._entered().pop()

    # what ops call

    def check(self, name: str, waits: bool = False) -> None:
        """Raises if the device is lost, or if a call that waits would break a capture."""
        self.driver.check_alive(name)
        if waits and self.capture is not None:
            self.capture.refuse(name, "waits for the device")

    def launch(self, work: Work) -> None:
        """Queues work on the current stream, or records it."""
        if self.capture is not None:
            self.driver.check_alive(work.name)
            self.capture.record(work)
        else:
            self.submit(work)

    def submit(self, work: Work) -> None:
        """Counts a launch, with its faults, and queues it."""
        self.driver.check_alive(work.name)
        if work.kernel:
            faults = self.driver.injector.strike("launch")
            if faults:
                self._fault(work, faults)
        self.stream.put(work)

    def _fault(self, work: Work, faults: dict[Kind, FaultPlan]) -> None:
        if "lost" in faults:
            self.driver.lose(self.name, work.name)
        work.fails = "kernel" in faults
        if "nan" in faults:
            work.poisons = any(t.is_floating_point() for t in work.writes)
            if not work.poisons:
                self.driver.injector.again(faults["nan"])

    def synchronize(self, name: str = "synchronize") -> None:
        """Does all work of all streams."""
        self.check(name, waits=True)
        for stream in self.streams:
            stream.run_to(stream.launched)


class Driver:
    """Boards, and the faults of all of them. A lost board loses the driver, as real drivers do."""

    def __init__(self, settings: SimSettings) -> None:
        self.settings = settings
        self.injector = Injector(parse_faults(settings.faults), settings.seed)
        props = props_of(settings)
        self.boards = [SimBoard(self, props.at(index)) for index in range(settings.devices)]
        self.lost = ""
        self._local = threading.local()

    def board(self, index: int) -> SimBoard:
        if not 0 <= index < len(self.boards):
            raise RuntimeError(f"no device sim:{index}; there are {len(self.boards)} (SIM_DEVICES)")
        return self.boards[index]

    def current(self) -> SimBoard:
        """The current device of this thread."""
        return self.boards[getattr(self._local, "index", 0)]

    def set_current(self, index: int) -> None:
        self._local.index = self.board(index).index

    def lose(self, board: str, call: str) -> None:
        """The device falls off the bus."""
        self.lost = f"{board} is lost: it stopped answering in {call} (injected fault 'lost')"
        self.check_alive(call)

    def check_alive(self, call: str) -> None:
        if self.lost:
            from .errors import SimDeviceLost

            raise SimDeviceLost(f"{call}: {self.lost}; only a new process gets it back")


class _Holder:
    """Where the driver of the process is kept."""

    lock = threading.Lock()
    driver: Driver | None = None


def driver() -> Driver:
    """The driver of this process; made from the environment when first asked for."""
    with _Holder.lock:
        if _Holder.driver is None:
            _Holder.driver = Driver(load_settings())
        return _Holder.driver


def restart(**changes: Any) -> Driver:
    """A new driver, as in a new process. For tests: tensors of the old one stay on it.

    changes: settings that win over the environment.
    """
    with _Holder.lock:
        _Holder.driver = Driver(load_settings(**changes))
        return _Holder.driver
