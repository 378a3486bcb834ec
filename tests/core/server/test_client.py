"""What the server tells clients when its engine ends, without a process."""

from __future__ import annotations

import asyncio
import time

import pytest

from inferplane.engine.messages import Failed, Outputs, Pages, Ready, Stats
from inferplane.scheduler.request import Finish, Output
from inferplane.server.child import Ended
from inferplane.server.client import EngineClient, add_counts
from inferplane.settings import Settings

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=1)

READY = Ready(max_model_len=64, kernels=[], device="none", load_seconds=2.0)
LOST = Ended("lost", "the device is lost")


@pytest.fixture
def client() -> EngineClient:
    return EngineClient(Settings(model="none", restart_limit=2, restart_backoff_s=4), {})


def in_flight(client: EngineClient, *ids: str) -> asyncio.Queue[Output]:
    queue: asyncio.Queue[Output] = asyncio.Queue()
    client._queues.update(dict.fromkeys(ids, queue))
    return queue


def taken(queue: asyncio.Queue[Output]) -> list[tuple[str, Finish | None, str]]:
    outputs = [queue.get_nowait() for _ in range(queue.qsize())]
    return [(o.id, o.finish, o.error) for o in outputs]


def test_an_engine_that_never_was_ready_is_not_started_again(client):
    assert client._wait(Ended("crash", "no such file", user=True)) is None
    assert (client.state, client.error, client.user_error) == ("dead", "no such file", True)
    assert client.settled.is_set()


def test_one_that_was_ready_is(client):
    client._dispatch(READY)
    assert client._wait(LOST) == 4
    assert (client.state, client.error) == ("restarting", "the device is lost")


def test_a_restart_that_fails_is_tried_again_until_the_limit(client):
    client._dispatch(READY)
    assert [client._wait(LOST) for _ in range(3)] == [4, 8, None]
    assert client.state == "dead"
    assert "restarted 2 times" in client.error


def test_ready_again_it_says_so(client):
    client._dispatch(READY)
    client._wait(LOST)
    client._dispatch(READY)
    assert (client.state, client.error) == ("ready", "")


def test_each_request_in_flight_gets_one_error(client):
    """The engine says that it failed, and then its process ends."""
    client._dispatch(READY)
    queue = in_flight(client, "a", "b")
    client._dispatch(Failed("the device is lost", user=False, lost=True))
    client._wait(LOST)
    assert taken(queue) == [(id, Finish.ERROR, "the device is lost") for id in "ab"]


def test_one_that_waits_for_the_invariants_learns_it_too(client):
    async def check() -> None:
        client._dispatch(READY)
        client._child = type("Child", (), {"send": lambda self, message: None})()
        asking = asyncio.create_task(client.check())
        await asyncio.sleep(0)
        client._wait(LOST)
        await asking

    with pytest.raises(ConnectionError, match="the device is lost"):
        asyncio.run(check())


def test_come_again_when_the_engine_may_be_there(client):
    client._dispatch(READY)
    client._wait(LOST)
    assert client.retry_after == 6  # 4 s to wait, 2 s to load
    client._next_start = time.monotonic() - 60
    assert client.retry_after == 1


def test_counts_go_on_and_levels_do_not():
    past = Stats(running=3, steps=10, output_tokens=7, faults={"kernel": 2})
    pages = [Pages("full", 8, 8, 0, 0)]
    now = Stats(running=1, steps=5, pages=pages, faults={"kernel": 1, "memory": 4})
    total = add_counts(past, now)
    assert (total.running, total.steps, total.output_tokens, total.pages) == (1, 15, 7, pages)
    assert total.faults == {"kernel": 3, "memory": 4}


def test_faults_are_those_of_steps_and_of_engines(client):
    client._dispatch(READY)
    client._dispatch(Outputs([], Stats(faults={"memory": 2})))
    client.ends["lost"] += 1
    client._wait(LOST)
    client._dispatch(Outputs([], Stats(faults={"memory": 1, "numerics": 1})))
    wanted = {"memory": 3, "kernel": 0, "numerics": 1, "lost": 1, "hung": 0, "crash": 0}
    assert client.faults == wanted
