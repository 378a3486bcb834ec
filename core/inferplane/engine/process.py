"""The engine in a process of its own: `python -m inferplane.engine.process FOLDER`.

FOLDER holds the socket, the board of what each rank does, and reports. Settings come as JSON on
standard input, so that they are in no list of processes. The process ends with a `Stop`, when its
parent is gone, when its device is lost, or when a step hangs.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import zmq

from inferplane.activity import Activity, Board, board_file, hang_file, stacks_file
from inferplane.errors import EngineDead, UserError
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
from .watchdog import Hang, Watchdog

log = logging.getLogger("inferplane.engine")

_IDLE_MS = 200
_PROGRESS_S = 0.1
HUNG = 75  # exit code after a step that hung


class EngineProcess:
    """Takes requests from a socket, steps, and sends outputs."""

    def __init__(self, socket: Any, activity: Activity) -> None:
        self.socket, self.activity = socket, activity
        self.parent = os.getppid()
        self.engine: Engine | None = None
        self._told = 0.0

    def load(self, settings: Settings, sources: dict[str, str]) -> None:
        begin = time.monotonic()
        plan = make_plan(settings, sources)
        self.engine = build_engine(plan, self._progress, self.activity)
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
        taken = scheduler.slots.size - scheduler.slots.free  # also by what launched steps still use
        return Stats(
            running=taken,
            waiting=len(scheduler.waiting),
            steps=engine.stats.steps,
            failed_steps=engine.stats.failed_steps,
            preemptions=scheduler.preemptions,
            prompt_tokens=engine.stats.prompt_tokens,
            cached_tokens=engine.stats.cached_tokens,
            output_tokens=engine.stats.output_tokens,
            pages=pages,
            faults=dict(engine.stats.faults),
        )


def watch(folder: Path, settings: dict[str, Any]) -> Activity:
    """Starts the watchdog of this rank, and a dump of all stacks on SIGUSR1 for a parent that finds
    this process stuck where not even the watchdog runs."""
    faulthandler.enable()
    stacks = stacks_file(folder).open("w")
    faulthandler.register(signal.SIGUSR1, file=stacks)
    activity = Activity(Board(1, board_file(folder)))

    def end(hang: Hang) -> None:
        os.write(2, f"ERROR {log.name}: a step hangs: {hang.report}\n".encode())
        hang_file(folder).write_text(hang.short, encoding="utf-8")
        os._exit(HUNG)  # the thread that steps cannot be woken

    Watchdog(activity, settings["step_timeout_s"], end, folder).start()
    return activity


def main(folder: str) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server decides when this ends
    given = msgspec.json.decode(sys.stdin.buffer.read())
    logging.basicConfig(
        level=given["settings"]["log_level"].upper(), format="%(levelname)s %(name)s: %(message)s"
    )
    context = zmq.Context()
    socket = context.socket(zmq.PAIR)
    socket.connect(f"ipc://{folder}/engine")
    process = EngineProcess(socket, watch(Path(folder), given["settings"]))
    try:
        process.load(Settings.restore(given["settings"]), given["sources"])
        process.run()
    except EngineDead as error:
        process.send(Failed(str(error), user=False, lost=True))
        return 1
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
