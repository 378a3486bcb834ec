"""Runs the server until a signal: the first one drains, the second one ends at once."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from math import ceil
from typing import Any

import uvicorn

from inferplane.engine.requests import build_requests
from inferplane.errors import UserError
from inferplane.planning.plan import Plan

from .app import make_app
from .client import EngineClient
from .metrics import Metrics
from .service import Service

log = logging.getLogger(__name__)
_LAST_S = 1.0  # for errors to reach their clients


class Server(uvicorn.Server):
    """uvicorn, but a drained server exits 0 instead of dying of the signal again."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        for number in signals:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    def handle_exit(self, sig: int, frame: Any) -> None:
        if self.service.draining:
            self._give_up()
            return
        seconds, count = self.service.plan.settings.drain_timeout, self.service.client.open
        rest = f": requests ({count}) have {seconds:g} s to end; a second signal ends at once"
        log.info("stopping%s", rest if count else "")
        self.service.draining = True
        self.should_exit = True
        asyncio.get_running_loop().call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        """Open requests end with an error; what then still hangs, with the process."""
        client = self.service.client
        if client.open:
            log.warning("requests (%d) end with an error, since the server stops", client.open)
            client.give_up("the server was stopped")
        asyncio.get_running_loop().call_later(_LAST_S, setattr, self, "force_exit", True)


def open_socket(host: str, port: int) -> socket.socket:
    """A listening socket. Raises UserError if the address is taken, or none of this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        flag = "--port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "--host"
        raise UserError(f"cannot listen on {host}:{port}: {error.strerror}; try {flag}") from None
    return listener


def serve(
    plan: Plan,
    sources: dict[str, str],
    on_loading: Callable[[int, int], None],
    on_ready: Callable[[str, Any], None],
) -> int:
    """Serves until told to stop; gives the exit code. Raises UserError if it cannot start.

    on_ready: called with the address and the engine's `Ready`.
    """
    requests = build_requests(plan)
    listener = open_socket(plan.settings.host, plan.settings.port)
    return asyncio.run(_serve(plan, sources, requests, listener, on_loading, on_ready))


async def _serve(
    plan: Plan,
    sources: dict[str, str],
    requests: Any,
    listener: socket.socket,
    on_loading: Callable[[int, int], None],
    on_ready: Callable[[str, Any], None],
) -> int:
    client = EngineClient(plan.settings, sources)
    client.on_loading = on_loading
    metrics = Metrics(client, plan.model_name)
    service = Service(plan, requests, client, metrics)
    level = plan.settings.log_level  # uvicorn's own "info" says that it is up, before we are
    config = uvicorn.Config(
        make_app(service),
        log_level="warning" if level == "info" else level,
        access_log=level == "debug",
        timeout_graceful_shutdown=ceil(plan.settings.drain_timeout + 2 * _LAST_S),
    )
    server = Server(config, service)
    host, port = listener.getsockname()[:2]
    running = asyncio.create_task(server.serve([listener]))
    settled = asyncio.create_task(client.settled.wait())
    await asyncio.wait({running, settled}, return_when=asyncio.FIRST_COMPLETED)
    if client.state == "ready" and client.ready is not None:
        requests.max_length = min(requests.max_length, client.ready.max_model_len)
        on_ready(f"http://{host}:{port}", client.ready)
    elif client.state == "dead" and not service.draining:
        server.should_exit = True
        await running
        if client.user_error:
            raise UserError(client.error)
        return 1
    settled.cancel()
    await running
    return 0
