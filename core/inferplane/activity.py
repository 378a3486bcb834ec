"""What each rank is doing now, where others can read it: a record a rank in a shared file.

A rank writes its own record only, with one call that needs no lock, so that it is cheap (1 µs) and
right even when the rank then hangs. Watchdogs read the records.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_RECORD = struct.Struct("<QQQdd160s")  # pid, step, serial, begun, since, what
_NUMBER = struct.Struct("<Q")  # the alarm, first in the file; and behind each record, its beats
_FIRST = 64  # bytes before the first record
_STRIDE = _RECORD.size + _NUMBER.size


@dataclass(frozen=True, slots=True)
class Record:
    """pid: 0 before the rank has started. step: number of the last step. serial: marks so far.
    begun: when the step began, 0.0 between steps. since: when `what` began; both by
    `time.monotonic()`, which all processes of a machine share. beats: how often the rank's own
    watchdog saw that it gets on.
    """

    rank: int
    pid: int
    step: int
    serial: int
    begun: float
    since: float
    what: str
    beats: int

    @property
    def stepping(self) -> bool:
        return self.begun > 0

    def text(self, what: str = "") -> str:
        """One line for people. what: instead of the record's own."""
        if not self.pid:
            return f"rank {self.rank}: not started"
        where = what or self.what
        where = f"step {self.step}, {where}" if self.stepping else where
        seconds = time.monotonic() - self.since
        return f"rank {self.rank} (pid {self.pid}): {where}, for {seconds:.1f} s"


class Board:
    """The records of all ranks. path: a file that all of them map; None for one process."""

    def __init__(self, ranks: int, path: str | os.PathLike[str] | None = None) -> None:
        self.ranks = ranks
        size = _FIRST + ranks * _STRIDE
        if path is None:
            self.memory = mmap.mmap(-1, size)
            return
        with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            if os.fstat(file.fileno()).st_size < size:
                file.truncate(size)
            self.memory = mmap.mmap(file.fileno(), size)

    def record(self, rank: int) -> Record:
        """The rank's record. One that was being written is read again."""
        data = self._bytes(rank)
        for _ in range(3):
            again = self._bytes(rank)
            if again == data:
                break
            data = again
        pid, step, serial, begun, since, what = _RECORD.unpack_from(data)
        (beats,) = _NUMBER.unpack_from(data, _RECORD.size)
        text = what.rstrip(b"\0").decode(errors="replace")
        return Record(rank, pid, step, serial, begun, since, text, beats)

    def _bytes(self, rank: int) -> bytes:
        first = _FIRST + rank * _STRIDE
        return self.memory[first : first + _STRIDE]

    def records(self) -> list[Record]:
        return [self.record(rank) for rank in range(self.ranks)]

    def text(self) -> str:
        """What all ranks are doing, in one line."""
        return "; ".join(record.text() for record in self.records())

    @property
    def alarm(self) -> bool:
        """A watchdog has found a rank that hangs: every rank is to write down where it stands."""
        return bool(_NUMBER.unpack_from(self.memory)[0])

    def raise_alarm(self) -> None:
        _NUMBER.pack_into(self.memory, 0, 1)


class Activity:
    """The writing end of one rank's record.

    current: the runner's step, whose `layer` tells how far the model is; None between steps.
    timed: whether steps count for watchdogs; not while kernels may be compiled in them.
    thread: the one that runs steps. collectives: called so far, and what the last one was: where
    calls only queue work, they return long before another rank is missed.
    """

    def __init__(self, board: Board, rank: int = 0) -> None:
        self.board, self.rank = board, rank
        self.current: Any = None
        self.timed = True
        self.thread = threading.get_ident()
        self._memory, self._at = board.memory, _FIRST + rank * _STRIDE
        self._pid = os.getpid()
        self._step = self._serial = self._beats = 0
        self._begun = self._since = 0.0
        self.what = ""
        self.collectives, self.collective = 0, ""
        self.enter("loading")

    def begin(self, step: int) -> None:
        """A step begins."""
        self.thread = threading.get_ident()
        self._step, self._begun = step, time.monotonic() if self.timed else 0.0
        self.enter("inputs")

    def enter(self, what: str) -> None:
        """Another part of the step begins."""
        self._serial += 1
        self.what, self._since = what, time.monotonic()
        _RECORD.pack_into(
            self._memory,
            self._at,
            self._pid,
            self._step,
            self._serial,
            self._begun,
            self._since,
            what.encode()[:160],
        )

    def end(self) -> None:
        """The step is over, however it ended."""
        self._begun, self.current = 0.0, None
        self.enter("idle")

    def beat(self) -> None:
        """The rank's watchdog has seen that it gets on."""
        self._beats += 1
        _NUMBER.pack_into(self._memory, self._at + _RECORD.size, self._beats)

    @property
    def progress(self) -> tuple[int, int] | None:
        """Changes while a step gets anywhere: marks so far, and the model's layer. None between
        steps."""
        return (self._serial, getattr(self.current, "layer", -1)) if self._begun else None

    def where(self) -> str:
        """What this rank is doing, with the layer that the model has come to."""
        layer = getattr(self.current, "layer", -1)
        return f"forward layer {layer}" if self.what == "forward" and layer >= 0 else self.what

    def text(self) -> str:
        """The record's line, with what only this process knows."""
        line = self.board.record(self.rank).text(what=self.where())
        if self.collectives:
            line += f" (collective {self.collectives}, {self.collective}, was its last)"
        return line


# The files of one engine, in a folder that its processes share.


def board_file(folder: Path) -> Path:
    """The board of all ranks."""
    return folder / "activity"


def stand_file(folder: Path, rank: int) -> Path:
    """Where a rank writes down what it does when there is an alarm."""
    return folder / f"rank-{rank}.txt"


def hang_file(folder: Path) -> Path:
    """What the engine's process tells its parent of a hang, before it ends."""
    return folder / "hang.txt"


def stacks_file(folder: Path) -> Path:
    """Where SIGUSR1 dumps the stacks of all threads of the engine's process."""
    return folder / "stacks.txt"
