"""When an engine is started again."""

import pytest

from inferplane.server.restarts import Restarts

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=1)


def test_each_wait_is_twice_the_one_before_up_to_the_longest():
    restarts = Restarts(limit=10, window_s=1000, first_s=1, most_s=30)
    waits = [restarts.wait(at, ready_s=0) for at in range(7)]
    assert waits == [1, 2, 4, 8, 16, 30, 30]


def test_an_engine_that_worked_for_long_is_restarted_soon():
    restarts = Restarts(limit=10, window_s=1000, first_s=1, most_s=30)
    for at in range(5):
        restarts.wait(at, ready_s=0)
    assert restarts.wait(100, ready_s=31) == 1


def test_too_many_within_the_window_are_the_end():
    restarts = Restarts(limit=2, window_s=10, first_s=1, most_s=30)
    assert [restarts.wait(at, 0) is None for at in (0, 1, 2)] == [False, False, True]
    assert "restarted 2 times within 10 s" in restarts.refusal


def test_restarts_before_the_window_do_not_count():
    restarts = Restarts(limit=2, window_s=10, first_s=1, most_s=30)
    assert [restarts.wait(at, 0) is None for at in (0, 1, 12)] == [False] * 3


def test_a_limit_of_0_restarts_never():
    restarts = Restarts(limit=0, window_s=10, first_s=1, most_s=30)
    assert restarts.wait(0, ready_s=100) is None
    assert "restart-limit is 0" in restarts.refusal
