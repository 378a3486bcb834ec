"""Ends what hangs, with a report of what each rank was doing.

Every rank process runs a `Watchdog`: a thread that looks whether the rank's step gets on. The first
one that sees a hang raises the alarm on the board; then every rank's watchdog writes down where its
rank stands, and the first joins these into a report.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inferplane.activity import Activity, stand_file

log = logging.getLogger("inferplane.engine")

_MOST_POLL_S = 0.5
_FOR_OTHERS_S = 2.0  # that other ranks get to write down where they stand


@dataclass(frozen=True, slots=True)
class Hang:
    """short: what each rank was doing, in one line. report: the same with Python stacks."""

    short: str
    report: str


class Watchdog:
    """timeout_s: without progress in a step; time between steps and loading do not count.
    folder: shared by all ranks; None for a rank that is alone. on_hang: called from the thread,
    once a hang."""

    def __init__(
        self,
        activity: Activity,
        timeout_s: float,
        on_hang: Callable[[Hang], None],
        folder: Path | None = None,
    ) -> None:
        self.activity, self.timeout_s, self.on_hang = activity, timeout_s, on_hang
        self.folder = folder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._told = False

    def start(self) -> Watchdog:
        if self.timeout_s:
            self._thread.start()
        return self

    def stop(self) -> None:
        self._stop.set()

    def _run(self) -> None:
        seen, since = self.activity.progress, time.monotonic()
        while not self._stop.wait(min(_MOST_POLL_S, self.timeout_s / 4)):
            if self.folder is not None and self.activity.board.alarm:
                self._stand()
            progress = self.activity.progress
            if progress is None or progress != seen:
                seen, since, self._told = progress, time.monotonic(), False
                self.activity.beat()
            elif time.monotonic() - since > self.timeout_s and not self._told:
                self._told = True
                self.on_hang(self._hang(time.monotonic() - since))

    def _hang(self, seconds: float) -> Hang:
        self._stand()
        if self.folder is not None:
            self.activity.board.raise_alarm()
            self._wait_for_others(self.folder)
        lines, report = [], ""
        for record in self.activity.board.records():
            line, stack = record.text(), ""
            if record.rank == self.activity.rank:
                line, stack = self.activity.text(), self._stack()
            elif (
                self.folder is not None and (file := stand_file(self.folder, record.rank)).exists()
            ):
                line, _, stack = file.read_text(encoding="utf-8").partition("\n")
            lines.append(line)
            report += f"{line}\n{stack}"
        head = f"no progress for {seconds:.1f} s (step-timeout-s is {self.timeout_s:g})"
        return Hang(f"{head}: {'; '.join(lines)}", f"{head}\n{report}")

    def _wait_for_others(self, folder: Path) -> None:
        end = time.monotonic() + _FOR_OTHERS_S
        others = [
            r for r in self.activity.board.records() if r.pid and r.rank != self.activity.rank
        ]
        while time.monotonic() < end:
            if all(stand_file(folder, record.rank).exists() for record in others):
                return
            time.sleep(0.02)

    def _stand(self) -> None:
        """Writes down where this rank stands, for the rank that reports."""
        if self.folder is None:
            return
        file = stand_file(self.folder, self.activity.rank)
        if not file.exists():
            draft = file.with_suffix(".draft")
            draft.write_text(f"{self.activity.text()}\n{self._stack()}", encoding="utf-8")
            draft.rename(file)

    def _stack(self) -> str:
        """Of the thread that runs steps."""
        frame = sys._current_frames().get(self.activity.thread)
        return "".join(traceback.format_stack(frame)) if frame else "  (the thread has ended)\n"


def tell(hang: Hang) -> None:
    """For a process that is not ours to end: the report goes to the log."""
    log.error("a step hangs: %s", hang.report)
