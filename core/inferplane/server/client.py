"""The server's end of the engine process: starts it, sends requests, hands out what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from inferplane.engine.messages import (
    Abort,
    Add,
    Check,
    Checked,
    Failed,
    Loading,
    Outputs,
    Ready,
    Stats,
    Stop,
    pack,
    unpack_up,
)
from inferplane.scheduler.request import Finish, Output, Request
from inferplane.settings import Settings

log = logging.getLogger("inferplane.server")

_END_S = 10.0


class EngineClient:
    """state: "loading", "ready", or "dead" with `error`. stats: as of the last message."""

    def __init__(self, settings: Settings, sources: dict[str, str]) -> None:
        self.settings, self.sources = settings, sources
        self.state = "loading"
        self.error = ""
        self.user_error = False
        self.ready: Ready | None = None
        self.stats = Stats()
        self.settled = asyncio.Event()  # ready or dead
        self.on_loading: Callable[[int, int], None] = lambda done, total: None
        self._queues: dict[str, asyncio.Queue[Output]] = {}
        self._checks: dict[int, asyncio.Future[Checked]] = {}
        self._serial = count()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Starts the process; returns at once."""
        self._folder = tempfile.mkdtemp(prefix="inferplane-")  # readable by this user only
        address = f"ipc://{self._folder}/engine"
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.PAIR)
        self._socket.bind(address)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "inferplane.engine.process",
            address,
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches the server only, which then ends the engine
        )
        assert self._process.stdin is not None
        settings = self.settings.model_dump(exclude={"api_key"})
        self._process.stdin.write(
            msgspec.json.encode({"settings": settings, "sources": self.sources})
        )
        self._process.stdin.close()
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._watch())]

    async def _read(self) -> None:
        while True:
            self._dispatch(unpack_up(await self._socket.recv()))

    def _dispatch(self, message: Any) -> None:
        if isinstance(message, Outputs):
            self.stats = message.stats
            for output in message.outputs:
                if output.id in self._queues:
                    self._queues[output.id].put_nowait(output)
        elif isinstance(message, Checked):
            self.stats = message.stats
            waiting = self._checks.pop(message.serial, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(message)
        elif isinstance(message, Loading):
            self.on_loading(message.done, message.total)
        elif isinstance(message, Ready):
            self.ready, self.state = message, "ready"
            self.settled.set()
        elif isinstance(message, Failed):
            self._die(message.message, message.user)

    async def _watch(self) -> None:
        code = await self._process.wait()
        await asyncio.sleep(0.1)  # its last message may still be on the way
        self._die(f"the engine process ended with code {code}")

    def _die(self, error: str, user: bool = False) -> None:
        """Everything that waits for the engine learns that it is gone."""
        if self.state == "dead":
            return
        self.state, self.error, self.user_error = "dead", error, user
        self.settled.set()
        log.error("engine: %s", error)
        for id, queue in self._queues.items():
            queue.put_nowait(Output(id, [], Finish.ERROR, error=error))
        for waiting in self._checks.values():
            waiting.cancel()

    @property
    def open(self) -> int:
        """Requests that were sent and are not finished."""
        return len(self._queues)

    def submit(self, requests: list[Request]) -> asyncio.Queue[Output]:
        """Sends requests; their outputs come through one queue."""
        queue: asyncio.Queue[Output] = asyncio.Queue()
        for request in requests:
            self._queues[request.id] = queue
            self._send(Add.of(request))
        return queue

    def release(self, id: str) -> None:
        """A request is finished."""
        self._queues.pop(id, None)

    def abort(self, ids: list[str]) -> None:
        """Ends requests; nothing more comes of them."""
        open_ids = [id for id in ids if self._queues.pop(id, None) is not None]
        if open_ids and self.state == "ready":
            self._send(Abort(open_ids))

    async def check(self) -> Checked:
        """The invariants, as of now. Raises ConnectionError if the engine is not there."""
        if self.state != "ready":
            raise ConnectionError(f"the engine is {self.state}")
        serial = next(self._serial)
        self._checks[serial] = asyncio.get_running_loop().create_future()
        self._send(Check(serial))
        return await self._checks[serial]

    def _send(self, message: Any) -> None:
        self._socket.send(pack(message))  # queued by zmq's own thread: never waits

    async def stop(self) -> None:
        """Ends the process, kindly first."""
        alive = self._process.returncode is None
        if alive and self.state == "ready":
            self._send(Stop())
        elif alive:
            self._process.terminate()
        with contextlib.suppress(asyncio.TimeoutError, ProcessLookupError):
            await asyncio.wait_for(self._process.wait(), _END_S)
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        for task in self._tasks:
            task.cancel()
        self._socket.close(linger=0)
        self._context.term()
        shutil.rmtree(self._folder, ignore_errors=True)
