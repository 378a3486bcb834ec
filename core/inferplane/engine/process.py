"""The engine in a process of its own: `python -m inferplane.engine.process ADDRESS`.

Settings come as JSON on standard input, so that they are in no list of processes. The process ends
with a `Stop`, or when its parent is gone.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from typing import Any

import msgspec
import zmq

from inferplane.errors import UserError
from inferplane.planning.plan import make_plan
from inferplane.scheduler.request import Finish, Output
from inferplane.settings import Settings

from .build import build_engine
from .engine import Engine
from .messages import (
    Abort,
    Add,
    Check,
    Checked,
    Failed,
    Loading,
    Outputs,
    Pages,
    Ready,
    Stats,
    Stop,
    pack,
    unpack_down,
)

log = logging.getLogger("inferplane.engine")

_IDLE_MS = 200
_PROGRESS_S = 0.1


class EngineProcess:
    """Takes requests from a socket, steps, and sends outputs."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.parent = os.getppid()
        self.engine: Engine | None = None
        self._told = 0.0

    def load(self, settings: Settings, sources: dict[str, str]) -> None:
        begin = time.monotonic()
        plan = make_plan(settings, sources)
        self.engine = build_engine(plan, self._progress)
        kernels: dict[tuple[str, str], int] = {}
        for choice in plan.resolution.choices.values():
            key = (choice.request.op, choice.names)
            kernels[key] = kernels.get(key, 0) + 1
        self.send(
            Ready(
                plan.effective["max_model_len"],
                [(op, name, count) for (op, name), count in kernels.items()],
                plan.catalog.props.name,
                time.monotonic() - begin,
            )
        )

    def _progress(self, done: int, total: int) -> None:
        if done == total or time.monotonic() - self._told > _PROGRESS_S:
            self._told = time.monotonic()
            self.send(Loading(done, total))

    def send(self, message: Any) -> None:
        self.socket.send(pack(message))

    def run(self) -> None:
        """Until told to stop."""
        assert self.engine is not None
        engine = self.engine
        while self._receive(0 if engine.unfinished else _IDLE_MS):
            if engine.unfinished:
                outputs = engine.step()
                if outputs:
                    self.send(Outputs(outputs, self._stats()))
        engine.close()

    def _receive(self, wait_ms: int) -> bool:
        """Handles all messages that are there. False: it is time to end."""
        while self.socket.poll(wait_ms):
            wait_ms = 0
            message = unpack_down(self.socket.recv())
            if isinstance(message, Stop):
                return False
            self._handle(message)
        return os.getppid() == self.parent

    def _handle(self, message: Add | Abort | Check) -> None:
        assert self.engine is not None
        if isinstance(message, Add):
            try:
                self.engine.add(message.request())
            except UserError as error:
                refused = Output(message.id, [], Finish.ERROR, error=str(error))
                self.send(Outputs([refused], self._stats()))
        elif isinstance(message, Abort):
            for id in message.ids:
                self.engine.abort(id)
        else:
            self.send(Checked(message.serial, self._check(), self._stats()))

    def _check(self) -> str:
        assert self.engine is not None
        try:
            self.engine.check_invariants()
        except AssertionError as error:
            return str(error) or "an invariant does not hold"
        return ""

    def _stats(self) -> Stats:
        assert self.engine is not None
        engine, scheduler = self.engine, self.engine.scheduler
        pages = [
            Pages(group.name, pool.size, pool.free, pool.evictable, pool.size - pool.available)
            for group, pool in zip(engine.plan.groups, engine.cache.pools, strict=True)
        ]
        return Stats(
            running=len(scheduler.slots.order),
            waiting=len(scheduler.waiting),
            steps=engine.stats.steps,
            failed_steps=engine.stats.failed_steps,
            preemptions=scheduler.preemptions,
            prompt_tokens=engine.stats.prompt_tokens,
            cached_tokens=engine.stats.cached_tokens,
            output_tokens=engine.stats.output_tokens,
            pages=pages,
        )


def main(address: str) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server decides when this ends
    given = msgspec.json.decode(sys.stdin.buffer.read())
    logging.basicConfig(
        level=given["settings"]["log_level"].upper(), format="%(levelname)s %(name)s: %(message)s"
    )
    context = zmq.Context()
    socket = context.socket(zmq.PAIR)
    socket.connect(address)
    process = EngineProcess(socket)
    try:
        process.load(Settings.restore(given["settings"]), given["sources"])
        process.run()
    except UserError as error:
        process.send(Failed(str(error), user=True))
        return 1
    except Exception as error:
        log.exception("the engine failed")
        process.send(Failed(f"{type(error).__name__}: {error}", user=False))
        return 1
    finally:
        socket.close(linger=2000)
        context.term()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
