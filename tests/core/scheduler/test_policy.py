"""In which order waiting requests run."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)

PREFIX = list(range(1, 10))


def order(loop, *requests):
    for request in requests:
        loop.scheduler.add(request)
    loop.drain()
    return loop.order


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [("fcfs", ["long", "short", "urgent"]), ("sjf", ["short", "urgent", "long"])],
)
def test_order_by_arrival_or_length(make_loop, make_request, policy, wanted):
    found = order(
        make_loop(policy=policy, slots=1),
        make_request("long", [1, 2], max_tokens=9),
        make_request("short", [3, 4], max_tokens=2),
        make_request("urgent", [5, 6], max_tokens=4, priority=-1),
    )
    assert found == wanted


def test_priority_comes_first(make_loop, make_request):
    found = order(
        make_loop(policy="priority", slots=1),
        make_request("late", [1, 2], priority=2),
        make_request("urgent", [3, 4], priority=-1),
        make_request("normal", [5, 6], priority=0),
    )
    assert found == ["urgent", "normal", "late"]


def test_the_longest_cached_prefix_comes_first(make_loop, make_request):
    loop = make_loop(policy="lpm", slots=1)
    order(loop, make_request("before", PREFIX))
    found = order(
        loop,
        make_request("stranger", [30] * 9),
        make_request("half", [*PREFIX[:4], 30, 30, 30, 30, 30]),
        make_request("whole", PREFIX),
    )
    assert found == ["before", "whole", "half", "stranger"]


def test_the_longest_prefix_is_looked_up_anew_for_every_step(make_loop, make_request):
    loop = make_loop(policy="lpm", slots=1)
    loop.scheduler.add(make_request("first", PREFIX))
    loop.scheduler.add(make_request("stranger", [30] * 9))
    loop.scheduler.add(make_request("same", PREFIX))
    loop.drain()
    assert loop.order == ["first", "same", "stranger"]
