"""The life of a server: start, drain, end, and an engine that dies."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from inferplane.errors import UserError
from inferplane.server.run import open_socket

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="server", est_seconds=42)

LONG = {
    "model": "tiny",
    "prompt": "1+1=",
    "max_tokens": 700,
    "ignore_eos": True,
    "temperature": 0,
}


def test_sigterm_lets_running_requests_finish_and_exits_0(start: Callable):
    server = start()
    asking, answers = ask_and_go_on(server)
    assert server.stop() == 0
    asking.join(timeout=30)
    assert answers[0].status_code == 200
    assert answers[0].json()["usage"]["completion_tokens"] == 700
    log = server.log.read_text()
    assert "stopping: requests (1) have 30 s to end" in log
    assert "startup complete" not in log  # it is not we who are up


def test_ctrl_c_exits_0(start: Callable):
    server = start()
    assert server.stop(signal.SIGINT) == 0
    assert server.log.read_text().endswith("stopping\n")


@pytest.mark.parametrize("timeout", ["60", "0.3"])
def test_what_has_no_time_to_end_gets_an_error(start: Callable, timeout):
    server = start("--drain-timeout", timeout)
    asking, answers = ask_and_go_on(server, n=48, max_tokens=1000)
    if timeout == "60":
        server.process.send_signal(signal.SIGINT)
        wait_until(lambda: "stopping: requests (48)" in server.log.read_text())
    began = time.monotonic()
    assert server.stop(signal.SIGINT) == 0
    assert time.monotonic() - began < 10
    asking.join(timeout=30)
    assert answers[0].status_code == 500
    assert answers[0].json()["error"]["message"] == "the server was stopped"
    log = server.log.read_text()
    assert "end with an error, since the server stops" in log
    assert "Traceback" not in log


def test_the_engine_ends_with_the_server(start: Callable):
    server = start()
    engine = server.engine
    server.process.kill()
    server.process.wait()
    for _ in range(100):
        if not os.path.exists(f"/proc/{engine}"):
            return
        time.sleep(0.1)
    raise AssertionError("the engine process is still there")


def test_a_dead_engine_turns_health_red_and_answers_503(start: Callable):
    server = start("--restart-limit", "0")
    os.kill(server.engine, signal.SIGKILL)
    for _ in range(100):
        health = httpx.get(server.url + "/health")
        if health.status_code == 503:
            break
        time.sleep(0.05)
    assert health.json()["status"] == "dead"
    assert server.post("/v1/completions", {**LONG, "max_tokens": 4}).status_code == 503
    assert server.stop() == 0


def test_requests_in_flight_get_an_error_when_the_engine_dies(start: Callable):
    server = start()
    asking, answers = ask_and_go_on(server)
    os.kill(server.engine, signal.SIGKILL)
    asking.join(timeout=30)
    assert answers[0].status_code == 500
    assert "error" in answers[0].json()


def test_a_taken_port_is_a_plain_error(start: Callable):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = start("--port", str(taken.getsockname()[1]), ready=False)
        assert server.process.wait(timeout=60) == 1
    assert "try --port" in server.log.read_text()


def test_an_address_of_another_machine_names_its_flag():
    with pytest.raises(UserError, match=r"cannot listen on 192\.0\.2\.1:0: .*; try --host"):
        open_socket("192.0.2.1", 0)  # for documentation, RFC 5737


@pytest.mark.parametrize(
    ("model", "words"), [("/nowhere", "no model folder"), ("broken", "cut off")]
)
def test_a_bad_model_ends_the_start_with_its_reason(start: Callable, tmp_path, model, words):
    if model == "broken":
        from inferplane.formats.locate import locate

        model = str(tmp_path)
        for file in locate("tiny-arithmetic").iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        weights = tmp_path / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1000])
    server = start(model=model, ready=False)
    assert server.process.wait(timeout=60) == 1
    log = server.log.read_text()
    assert words in log
    assert "Traceback" not in log


def ask_and_go_on(server: Any, **fields: Any) -> tuple[threading.Thread, list[httpx.Response]]:
    """Sends a long request from a thread; returns when the server has it."""
    answers: list[httpx.Response] = []
    asking = threading.Thread(
        target=lambda: answers.append(server.post("/v1/completions", {**LONG, **fields})),
        daemon=True,
    )
    asking.start()
    wait_until(lambda: server.get("/status")["open"] > 0)
    return asking, answers


def wait_until(happened: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)
