"""The fault table over HTTP: what clients see when the engine breaks, and that it serves again."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from tests.fakes.hanging import write_plugin

pytestmark = pytest.mark.ci(platforms=["sim"], suite="server", est_seconds=45)

SHORT = {"model": "tiny", "prompt": "12+30=", "max_tokens": 4, "temperature": 0}
LONG = {**SHORT, "max_tokens": 700, "ignore_eos": True}
SOON = ("--restart-backoff-s", "0.2", "--num-pages", "40", "--max-num-seqs", "8")


def metric(server: Any, name: str) -> float:
    for line in httpx.get(server.url + "/metrics", timeout=60).text.splitlines():
        if line.startswith(name + " "):
            return float(line.rpartition(" ")[2])
    raise AssertionError(f"no metric {name}")


def wait_for(server: Any, state: str, seconds: float = 60.0) -> Any:
    """The answer of /health in that state."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = httpx.get(server.url + "/health", timeout=60)
        if answer.json()["status"] == state:
            return answer
        time.sleep(0.02)
    raise AssertionError(f"never {state}: {answer.json()}; {server.log.read_text()[-3000:]}")


def works(server: Any) -> None:
    """It answers, rightly, and everything adds up."""
    wait_for(server, "ready")
    answer = server.post("/v1/completions", SHORT)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["text"] == "42"
    found = server.idle()
    assert not found["error"]
    assert all(p["free"] + p["cached"] == p["total"] for p in found["stats"]["pages"])


@pytest.fixture(scope="module")
def faulty(start: Callable) -> Any:
    """A server whose steps fail now and then."""
    faults = "kernel%3001,oom%2003,nan%4007"
    return start(*SOON, "--check-numerics", device="sim", SIM_FAULTS=faults)


@pytest.fixture(scope="module")
def answers(faulty) -> list[httpx.Response]:
    """Of so many requests that each kind of fault was there."""
    body = {**LONG, "max_tokens": 10}
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda _: faulty.post("/v1/completions", body), range(60)))


@pytest.fixture(scope="module")
def losing(start: Callable) -> Any:
    """A server that loses its device after 3,000 launches of each engine."""
    return start(*SOON, "--restart-limit", "1", device="sim", SIM_FAULTS="lost@3000")


@pytest.fixture(scope="module")
def lost(losing) -> tuple[list[httpx.Response], httpx.Response, httpx.Response]:
    """Answers of requests in flight, /health, and an answer while it restarts."""
    works(losing)
    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(losing.post, "/v1/completions", LONG) for _ in range(3)]
        health = wait_for(losing, "restarting")
        meanwhile = losing.post("/v1/completions", SHORT)
        return [a.result() for a in asking], health, meanwhile


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return write_plugin(tmp_path_factory.mktemp("plugin"))


@pytest.fixture(scope="module")
def hanging(start: Callable, folder) -> Any:
    """A server whose engine hangs when a file is written."""
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    kernel = ("--kernel", "activation.gated=hanging.gated")
    return start(*SOON, *kernel, "--step-timeout-s", "1", PYTHONPATH=path)


class TestFaultsOfSteps:
    """Kernel errors, out of memory, and numbers that are not finite."""

    def test_every_request_gets_an_answer_or_an_error_in_openais_shape(self, answers):
        failed = [a for a in answers if a.status_code != 200]
        assert {a.status_code for a in failed} == {500}
        assert len(failed) < len(answers)
        messages = [a.json()["error"]["message"] for a in failed]
        assert any("the step failed: SimKernelError" in m for m in messages)
        assert any("not finite at position" in m for m in messages)
        assert [m for m in messages if "memory" in m] == []

    @pytest.mark.parametrize("kind", ["memory", "kernel", "numerics"])
    def test_faults_are_counted_by_kind(self, faulty, answers, kind):
        assert metric(faulty, f'inferplane_faults_total{{kind="{kind}"}}') > 0

    def test_a_stream_ends_with_an_error_event(self, faulty, answers):
        for _ in range(30):
            text = faulty.post("/v1/completions", {**LONG, "max_tokens": 60, "stream": True}).text
            events = [line.removeprefix("data: ") for line in text.splitlines() if line]
            assert events[-1] == "[DONE]"
            last = json.loads(events[-2])
            if "error" in last:
                assert last["error"]["type"] == "server_error"
                return
        raise AssertionError("no fault hit a stream")

    def test_the_engine_was_never_restarted_and_everything_adds_up(self, faulty, answers):
        found = faulty.idle()
        assert not found["error"]
        assert all(p["free"] + p["cached"] == p["total"] for p in found["stats"]["pages"])
        assert metric(faulty, "inferplane_engine_restarts_total") == 0


class TestLostDevice:
    def test_all_in_flight_get_an_error(self, lost):
        assert [a.status_code for a in lost[0]] == [500] * 3
        assert all("the device is lost" in a.json()["error"]["message"] for a in lost[0])

    def test_health_is_red_with_the_reason(self, lost):
        assert lost[1].status_code == 503
        assert "the device is lost: SimDeviceLost" in lost[1].json()["error"]

    def test_new_requests_are_told_to_come_again(self, lost):
        assert lost[2].status_code == 503
        assert int(lost[2].headers["Retry-After"]) >= 1
        assert lost[2].json()["error"]["code"] == "engine_restarting"

    def test_it_serves_again(self, losing, lost):
        works(losing)

    def test_metrics_count_the_restart(self, losing, lost):
        wait_for(losing, "ready")
        assert metric(losing, "inferplane_engine_restarts_total") == 1
        assert metric(losing, 'inferplane_faults_total{kind="lost"}') == 1

    def test_after_too_many_it_stays_dead_and_says_so(self, losing, lost):
        wait_for(losing, "ready")
        assert losing.post("/v1/completions", LONG).status_code == 500
        health = wait_for(losing, "dead")
        assert "restarted 1 times within 600 s" in health.json()["error"]
        assert losing.post("/v1/completions", SHORT).status_code == 503
        assert losing.stop() == 0


class TestEndedProcess:
    """The process is killed, hangs, or hangs with the interpreter's lock held."""

    def restarts(self, hanging: Any, end: Callable[[], object]) -> str:
        """Ends the engine while a request runs; gives the error that the request got."""
        works(hanging)
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(hanging.post, "/v1/completions", LONG)
            while hanging.get("/status")["open"] == 0:
                time.sleep(0.01)
            end()
            answer = asking.result()
        assert answer.status_code == 500
        works(hanging)
        return answer.json()["error"]["message"]

    def test_killed(self, hanging):
        error = self.restarts(hanging, lambda: os.kill(hanging.engine, signal.SIGKILL))
        assert error == "the engine process was ended by SIGKILL"
        assert metric(hanging, 'inferplane_faults_total{kind="crash"}') == 1

    def test_hung(self, hanging, folder):
        pid = hanging.engine
        error = self.restarts(hanging, (folder / "hang").touch)
        assert "step-timeout-s is 1" in error
        assert f"rank 0 (pid {pid}): step" in error and "forward layer " in error
        assert "in a_kernel_that_hangs" in hanging.log.read_text()

    def test_hung_where_not_even_the_watchdog_runs(self, hanging, folder):
        hung = metric(hanging, 'inferplane_faults_total{kind="hung"}')
        error = self.restarts(hanging, (folder / "hold").touch)
        assert "its watchdog does not run" in error and "forward" in error
        assert 'hanging_plugin.py", line' in hanging.log.read_text()
        assert metric(hanging, 'inferplane_faults_total{kind="hung"}') == hung + 1
