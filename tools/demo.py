"""The demo: serve the bundled model on the CPU, ask it one question, print the answer, stop."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

QUESTION, RIGHT = "417+286", "703"
START_S = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def call(url: str, body: dict | None = None) -> dict:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def wait_until_ready(url: str, server: subprocess.Popen) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if server.poll() is not None:
            sys.exit(f"the server ended with code {server.returncode}")
        try:
            call(f"{url}/health")
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    sys.exit(f"the server was not ready in {START_S} s")


def main() -> int:
    port = free_port()
    command = ["-m", "inferplane.cli.main", "serve", "tiny-arithmetic", "--device", "cpu"]
    command += ["--port", str(port), "--log-level", "warning"]
    server = subprocess.Popen([sys.executable, *command])
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(url, server)
        print(f"asking {url}/v1/chat/completions: {QUESTION} = ?", flush=True)
        answer = call(
            f"{url}/v1/chat/completions",
            {
                "model": "tiny-arithmetic",
                "messages": [{"role": "user", "content": QUESTION}],
                "temperature": 0,
            },
        )
    finally:
        server.send_signal(signal.SIGTERM)
        code = server.wait(timeout=60)
    text = answer["choices"][0]["message"]["content"].strip()
    print(f"the server ended with code {code}")
    print(f"{QUESTION} = {text}: {'right' if text == RIGHT else f'wrong, it is {RIGHT}'}")
    return 0 if text == RIGHT and code == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
