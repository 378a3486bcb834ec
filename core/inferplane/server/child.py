"""One engine process: started, spoken to, watched, ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from inferplane.activity import Board, board_file, hang_file, stacks_file
from inferplane.engine.messages import Failed, Stop, pack, unpack_up
from inferplane.settings import Settings

log = logging.getLogger("inferplane.server")

_END_S = 10.0
_LAST_WORDS_S = 0.1  # its last message may still be on the way


@dataclass(frozen=True, slots=True)
class Ended:
    """Why a process ended. kind: "lost" device, "hung" step, or "crash". user: the message is all
    that a user needs."""

    kind: str
    message: str
    user: bool = False


class EngineChild:
    """on_message: gets whatever the process says."""

    def __init__(
        self,
        settings: Settings,
        sources: dict[str, str],
        context: zmq.asyncio.Context,
        on_message: Callable[[Any], None],
    ) -> None:
        self.settings, self.sources, self.on_message = settings, sources, on_message
        self.folder = Path(tempfile.mkdtemp(prefix="inferplane-"))  # readable by this user only
        self.board = Board(1, board_file(self.folder))
        self._socket = context.socket(zmq.PAIR)
        self._socket.bind(f"ipc://{self.folder}/engine")
        self.process: asyncio.subprocess.Process | None = None
        self._failed: Failed | None = None
        self._stuck = ""
        self._leaving = asyncio.Event()  # it said that it cannot go on
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Starts the process; returns at once."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "inferplane.engine.process",
            str(self.folder),
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches the server only, which then ends the engine
        )
        self.process = process
        assert process.stdin is not None
        settings = self.settings.model_dump(exclude={"api_key"})
        process.stdin.write(msgspec.json.encode({"settings": settings, "sources": self.sources}))
        process.stdin.close()
        self._tasks = [asyncio.create_task(work()) for work in (self._read, self._guard, self._see)]

    def send(self, message: Any) -> None:
        self._socket.send(pack(message))  # queued by zmq's own thread: never waits

    async def _read(self) -> None:
        while True:
            message = unpack_up(await self._socket.recv())
            if isinstance(message, Failed):
                self._failed = message
                self._leaving.set()
            self.on_message(message)

    async def _see(self) -> None:
        """A process that cannot go on may hang in its device's driver while it ends."""
        await self._leaving.wait()
        await asyncio.sleep(_END_S)
        self._signal(signal.SIGKILL)

    async def _guard(self) -> None:
        """The second line behind the process's own watchdog, which does not run where native code
        holds the interpreter forever."""
        timeout = self.settings.step_timeout_s
        if not timeout:
            return
        patience = timeout + max(2.0, timeout / 4)
        seen: dict[int, tuple[tuple[int, int], float]] = {}
        while True:
            await asyncio.sleep(min(1.0, timeout / 4))
            now = time.monotonic()
            for record in self.board.records():
                mark = record.serial, record.beats
                if not record.stepping or record.rank not in seen or seen[record.rank][0] != mark:
                    seen[record.rank] = mark, now
                elif now - seen[record.rank][1] > patience:
                    await self._end_stuck(now - seen[record.rank][1])
                    return

    async def _end_stuck(self, seconds: float) -> None:
        self._stuck = (
            f"no progress for {seconds:.1f} s, and its watchdog does not run "
            f"(step-timeout-s is {self.settings.step_timeout_s:g}): {self.board.text()}"
        )
        self._signal(signal.SIGUSR1)
        await asyncio.sleep(0.5)
        file = stacks_file(self.folder)
        stacks = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
        log.error("the engine is stuck: %s\n%s", self._stuck, stacks)
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def ended(self) -> Ended:
        """Waits for the end, and says why."""
        assert self.process is not None
        code = await self.process.wait()
        await asyncio.sleep(_LAST_WORDS_S)
        if self._stuck:
            return Ended("hung", self._stuck)
        if hang_file(self.folder).exists():
            return Ended("hung", hang_file(self.folder).read_text(encoding="utf-8"))
        if self._failed is not None:
            kind = "lost" if self._failed.lost else "crash"
            return Ended(kind, self._failed.message, self._failed.user)
        how = (
            f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        )
        return Ended("crash", f"the engine process {how}")

    async def stop(self, kindly: bool) -> None:
        """Ends the process, and gives back what belongs to it."""
        if self.process is not None and self.process.returncode is None:
            await self._end(self.process, kindly)
        for task in self._tasks:
            task.cancel()
        self._socket.close(linger=0)
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _end(self, process: asyncio.subprocess.Process, kindly: bool) -> None:
        if kindly:
            self.send(Stop())
        else:
            process.terminate()
        with contextlib.suppress(asyncio.TimeoutError, ProcessLookupError):
            await asyncio.wait_for(process.wait(), _END_S)
        if process.returncode is None:
            process.kill()
            await process.wait()
