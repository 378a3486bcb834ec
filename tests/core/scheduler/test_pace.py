"""How steps shrink after one that did not fit, and grow again."""

import pytest

from inferplane.scheduler.pace import Pace

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=3)


def steps_until(pace: Pace, tokens: int) -> int:
    """Committed full steps until a step may have so many tokens."""
    count = 0
    while pace.tokens < tokens:
        pace.passed(pace.tokens)
        count += 1
        assert count < 100_000
    return count


def test_half_of_what_did_not_fit_is_tried_next():
    pace = Pace(64)
    pace.shrink(40)
    assert pace.tokens == 20


def test_it_shrinks_from_what_was_allowed_when_a_step_was_launched_before():
    pace = Pace(64)
    pace.shrink(60)
    pace.shrink(60)  # launched behind the first one
    assert pace.tokens == 15


def test_one_token_is_the_least():
    pace = Pace(64)
    for _ in range(9):
        pace.shrink(pace.tokens)
    assert pace.tokens == 1


def test_it_grows_to_where_it_began_and_no_further():
    pace = Pace(48)
    pace.shrink(48)
    steps_until(pace, 48)
    pace.passed(48)
    assert pace.tokens == 48


def test_it_holds_for_a_while_before_it_grows():
    pace = Pace(64)
    pace.shrink(64)
    for _ in range(7):
        pace.passed(32)
    assert pace.tokens == 32


def test_a_limit_that_stays_is_met_ever_more_rarely():
    """Steps between failures, where more than 16 tokens never fit."""
    pace, between = Pace(64), []
    pace.shrink(64)
    pace.shrink(32)
    for _ in range(6):
        between.append(steps_until(pace, 32))
        pace.shrink(32)
    assert between == sorted(between)
    assert between[-1] > 16 * between[0]


def test_failures_that_have_nothing_to_do_with_size_do_not_slow_it_down_for_ever():
    """One in 40 steps, whatever its size."""
    pace, tokens = Pace(2048), []
    for step in range(2000):
        size = min(pace.tokens, 64)
        if step % 40 == 39:
            pace.shrink(size)
        else:
            pace.passed(size)
        tokens.append(pace.tokens)
    assert min(tokens) == 32
    assert sum(size >= 64 for size in tokens) > 1000


def test_one_descent_does_not_lengthen_the_hold():
    pace = Pace(1024)
    while pace.tokens > 1:
        pace.shrink(pace.tokens)
    assert steps_until(pace, 2) == 8
