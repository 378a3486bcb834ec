"""The server's end of the engine: sends requests, hands out what comes back, starts it again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec
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
)
from inferplane.scheduler.request import Finish, Output, Request
from inferplane.settings import Settings

from .child import Ended, EngineChild
from .restarts import Restarts

log = logging.getLogger("inferplane.server")


class EngineClient:
    """state: "loading", "ready", "restarting" or "dead", the last two with `error`.

    ready: what the engine said when it was ready; None before it ever was. stats: of the engine
    that runs, as of its last message. ends: how often an engine ended, by kind.
    """

    def __init__(self, settings: Settings, sources: dict[str, str]) -> None:
        self.settings, self.sources = settings, sources
        self.state = "loading"
        self.error = ""
        self.user_error = False
        self.ready: Ready | None = None
        self.stats = Stats()
        self.ends: Counter[str] = Counter()
        self.restarts = Restarts(
            settings.restart_limit,
            settings.restart_window_s,
            settings.restart_backoff_s,
            settings.restart_backoff_most_s,
        )
        self.settled = asyncio.Event()  # ready or dead
        self.on_loading: Callable[[int, int], None] = lambda done, total: None
        self._past = Stats()  # counts of engines that ended
        self._ready_at = self._next_start = 0.0
        self._queues: dict[str, asyncio.Queue[Output]] = {}
        self._checks: dict[int, asyncio.Future[Checked]] = {}
        self._serial = count()

    async def start(self) -> None:
        """Starts the process; returns at once."""
        self._context = zmq.asyncio.Context()
        await self._start_child()
        self._keeper = asyncio.create_task(self._keep())

    async def _start_child(self) -> None:
        self._child = EngineChild(self.settings, self.sources, self._context, self._dispatch)
        await self._child.start()

    async def _keep(self) -> None:
        """Starts the engine again whenever it ends, as long as that may help."""
        try:
            await self._restart()
        except Exception as error:  # no process can be started, say
            log.exception("the engine cannot be restarted")
            self._lose("dead", f"the engine cannot be restarted: {error}")

    async def _restart(self) -> None:
        while True:
            ended = await self._child.ended()
            await self._child.stop(kindly=False)
            self.ends[ended.kind] += 1
            wait = self._wait(ended)
            if wait is None:
                return
            await asyncio.sleep(wait)
            await self._start_child()

    def _wait(self, ended: Ended) -> float | None:
        """Seconds until the next start; None: this was the end."""
        now = time.monotonic()
        ready_s = now - self._ready_at if self._ready_at else 0.0
        self._ready_at = 0.0
        self._past, self.stats = add_counts(self._past, self.stats), Stats()
        if self.ready is None:  # it never worked
            self._lose("dead", ended.message, ended.user)
            return None
        wait = self.restarts.wait(now, ready_s)
        if wait is None:
            self._lose("dead", f"{ended.message}; {self.restarts.refusal}")
            return None
        self._next_start = now + wait
        self._lose("restarting", ended.message)
        log.warning("the engine ended (%s) and starts again in %.1f s", ended.kind, wait)
        return wait

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
            if self.ready is None:
                self.on_loading(message.done, message.total)
        elif isinstance(message, Ready):
            if self.ready is not None:
                log.warning("the engine is ready again, after %.1f s", message.load_seconds)
            self.ready, self.state, self.error = message, "ready", ""
            self._ready_at = time.monotonic()
            self.settled.set()
        elif isinstance(message, Failed):
            self._lose(
                "dead" if self.ready is None else "restarting", message.message, message.user
            )

    def _lose(self, state: str, error: str, user: bool = False) -> None:
        """Everything that waits for the engine learns that it is gone."""
        known = self.state in ("restarting", "dead")
        self.state, self.error, self.user_error = state, error, user
        if state == "dead":
            self.settled.set()
        if known:
            return
        log.error("engine: %s", error)
        self.give_up(error)
        for waiting in self._checks.values():
            if not waiting.done():
                waiting.set_exception(ConnectionError(f"the engine ended: {error}"))
        self._checks.clear()

    def give_up(self, error: str) -> None:
        """Every open request ends with this error."""
        for id, queue in self._queues.items():
            queue.put_nowait(Output(id, [], Finish.ERROR, error=error))

    @property
    def open(self) -> int:
        """Requests that were sent and are not finished."""
        return len(self._queues)

    @property
    def totals(self) -> Stats:
        """`stats`, with the counts of engines that ended before."""
        return add_counts(self._past, self.stats)

    @property
    def faults(self) -> dict[str, int]:
        """Faults since the server started, by kind."""
        found = {kind: self.totals.faults.get(kind, 0) for kind in ("memory", "kernel", "numerics")}
        return found | {kind: self.ends[kind] for kind in ("lost", "hung", "crash")}

    @property
    def retry_after(self) -> int:
        """Seconds after which asking again may help, while restarting."""
        loading = self.ready.load_seconds if self.ready else 0.0
        return max(1, math.ceil(self._next_start - time.monotonic() + loading))

    def submit(self, requests: list[Request]) -> asyncio.Queue[Output]:
        """Sends requests; their outputs come through one queue."""
        queue: asyncio.Queue[Output] = asyncio.Queue()
        for request in requests:
            self._queues[request.id] = queue
            self._child.send(Add.of(request))
        return queue

    def release(self, id: str) -> None:
        """A request is finished."""
        self._queues.pop(id, None)

    def abort(self, ids: list[str]) -> None:
        """Ends requests; nothing more comes of them."""
        open_ids = [id for id in ids if self._queues.pop(id, None) is not None]
        if open_ids and self.state == "ready":
            self._child.send(Abort(open_ids))

    async def check(self) -> Checked:
        """The invariants, as of now. Raises ConnectionError if the engine is not there."""
        if self.state != "ready":
            raise ConnectionError(f"the engine is {self.state}")
        serial = next(self._serial)
        self._checks[serial] = asyncio.get_running_loop().create_future()
        self._child.send(Check(serial))
        return await self._checks[serial]

    async def stop(self) -> None:
        """Ends the process, kindly first."""
        self._keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._keeper
        await self._child.stop(kindly=self.state == "ready")
        self._context.destroy(linger=0)


_COUNTS = (
    "steps",
    "failed_steps",
    "preemptions",
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
)


def add_counts(past: Stats, now: Stats) -> Stats:
    """`now`, with what was counted in the past."""
    counts: dict[str, Any] = {n: getattr(past, n) + getattr(now, n) for n in _COUNTS}
    counts["faults"] = dict(Counter(past.faults) + Counter(now.faults))
    return msgspec.structs.replace(now, **counts)
