"""A real server on the tiny random checkpoint, in processes of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest


@dataclass
class Running:
    """A started server."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    model: str = "tiny"

    @property
    def engine(self) -> int:
        """The engine's process id: the server's child."""
        command = ["ps", "-o", "pid=,args=", "--ppid", str(self.process.pid)]
        found = subprocess.run(command, capture_output=True, text=True).stdout
        lines = [line for line in found.splitlines() if "inferplane.engine.process" in line]
        return int(lines[0].split()[0])

    def get(self, path: str) -> Any:
        return httpx.get(self.url + path, timeout=60).json()

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return httpx.post(self.url + path, json=body, timeout=60, **options)

    def idle(self) -> dict[str, Any]:
        """Waits until nothing runs; gives the checked statistics."""
        for _ in range(200):
            found = self.get("/debug/invariants")
            if found["stats"]["running"] == found["stats"]["waiting"] == 0:
                return found
            time.sleep(0.05)
        raise AssertionError(f"requests are still open: {found}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    """Starts servers; ends those that still run after the module's tests."""
    servers: list[Running] = []

    def run(
        *flags: str,
        model: str = "tiny-arithmetic",
        ready: bool = True,
        device: str = "cpu",
        **variables: str,
    ) -> Running:
        port = free_port()
        log = tmp_path_factory.mktemp("server") / "log"
        command = [sys.executable, "-m", "inferplane.cli.main", "serve", model]
        command += ["--device", device, "--port", str(port), "--served-model-name", "tiny"]
        command += ["--dtype", "float32", "--threads", "1", *flags]
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, stdout=out, stderr=out, env={**os.environ, **variables}
            )
        server = Running(f"http://127.0.0.1:{port}", process, log)
        servers.append(server)
        if ready:
            wait_ready(server)
        return server

    yield run
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


def wait_ready(server: Running) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        assert server.process.poll() is None, server.log.read_text()
        try:
            if httpx.get(server.url + "/health", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"not ready: {server.log.read_text()}")
