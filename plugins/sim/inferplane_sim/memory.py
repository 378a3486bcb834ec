"""Accounts for device memory: every live allocation of this process, by storage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from inferplane.spec import DeviceProps, MemoryInfo, MiB

if TYPE_CHECKING:
    from .faults import Injector

_SOURCE = "simulated device"


class Owner(Protocol):
    """Who gets memory back."""

    def give_back(self, size: int) -> None: ...


class Allocation:
    """The memory of one storage. Views share it; it is free when the last of them is gone.

    book: gets it back. fresh: zeroed by the host and written by nobody yet.
    """

    __slots__ = ("book", "bytes", "fresh")

    def __init__(self, book: Owner, size: int, fresh: bool) -> None:
        self.book, self.bytes, self.fresh = book, size, fresh

    def __del__(self) -> None:
        self.book.give_back(self.bytes)


class Book:
    """Bytes of one device."""

    def __init__(self, name: str, total: int, injector: Injector) -> None:
        self.name, self.total, self.injector = name, total, injector
        self.used = 0
        self.peak = 0

    @property
    def free(self) -> int:
        return self.total - self.used

    def take(self, size: int, fresh: bool = False) -> Allocation:
        """Raises SimOutOfMemory, and nothing changed, when it does not fit."""
        injected = "oom" in self.injector.strike("allocation")
        if injected or size > self.free:
            from .errors import SimOutOfMemory

            why = ", injected fault 'oom'" if injected else ""
            raise SimOutOfMemory(
                f"{self.name} is out of memory{why}: asked for {size / MiB:.2f} MiB, free "
                f"{self.free / MiB:.2f} MiB of {self.total / MiB:.2f} MiB in all"
            )
        self.used += size
        self.peak = max(self.peak, self.used)
        return Allocation(self, size, fresh)

    def give_back(self, size: int) -> None:
        self.used -= size

    def reset_peak(self) -> None:
        self.peak = self.used


def memory_info(props: DeviceProps) -> MemoryInfo:
    """What is free now. A process that has not used the device holds nothing."""
    from .driver import driver

    driver().check_alive("memory_info")
    book = driver().board(props.index).memory
    return MemoryInfo(
        free_bytes=book.free,
        total_bytes=book.total,
        source=_SOURCE,
        unified="unified_memory" in props.capabilities,
        used_by_us_bytes=book.used,
    )
