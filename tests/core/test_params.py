"""Sampling parameters: every bad value is refused with its name."""

import math

import pytest

from inferplane.errors import UserError
from inferplane.params import SamplingParams

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)

BAD = [
    ("n", [0, -1, 129, 10**9, True, 1.0, "1", None]),
    ("temperature", [-0.1, 100.5, math.nan, math.inf, True, "1", None, 10**400]),
    ("top_k", [-2, True, 1.5, "5", None]),
    ("top_p", [0.0, -0.5, 1.1, math.nan, True, None]),
    ("min_p", [-0.1, 1.1, math.nan, "0"]),
    ("repetition_penalty", [0.0, -1.0, math.nan, math.inf]),
    ("presence_penalty", [-2.1, 2.1, math.nan]),
    ("frequency_penalty", [-2.1, 2.1, math.nan]),
    ("seed", [1.5, True, "1", 1 << 64, -(1 << 63) - 1]),
    ("max_tokens", [0, -1, True, 1.5, "16", 1 << 31]),
    ("min_tokens", [-1, True, 1.5, 17]),
    ("logprobs", [-1, 21, True, 1.5]),
    ("prompt_logprobs", [-1, 21, True, 1.5]),
    ("stop", [[""], [1], ["a", None], 5, {"a": 1}, b"a"]),
    ("stop_token_ids", [5, "5", {5: 1}]),
    ("allowed_token_ids", [5, "5"]),
    ("logit_bias", [{1: 100.1}, {1: math.nan}, {1: "a"}, {1: True}, [1], "a"]),
    ("processors", [["f"], 5]),
    ("priority", [1.5, True, "high", None, 1 << 31]),
    ("ignore_eos", ["yes", 1, None]),
    ("include_stop_str_in_output", ["yes", 1]),
    ("skip_special_tokens", ["yes", 0]),
]


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD for value in values]
)
def test_a_bad_value_is_refused_by_name(name, value):
    with pytest.raises(UserError, match=name):
        SamplingParams(**{name: value})


GOOD = [
    ("n", [1, 128]),
    ("temperature", [0, 0.0, 1, 100.0]),
    ("top_k", [-1, 0, 1, 1 << 30]),
    ("top_p", [1e-9, 1, 1.0]),
    ("min_p", [0, 1.0]),
    ("seed", [None, 0, -(1 << 63), (1 << 64) - 1]),
    ("max_tokens", [None, 1, 1 << 30]),
    ("min_tokens", [0, 16]),
    ("logprobs", [None, 0, 20]),
    ("logit_bias", [{}, None, {1: -100.0, 2: 100}]),
    ("priority", [-5, 0, 5]),
]


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in GOOD for value in values]
)
def test_the_ends_of_a_range_are_taken(name, value):
    SamplingParams(**{name: value})


@pytest.mark.parametrize(
    ("given", "kept"), [("end", ("end",)), (["a", "b"], ("a", "b")), (None, ())]
)
def test_stop_is_a_text_or_several(given, kept):
    assert SamplingParams(stop=given).stop == kept


def test_lists_become_tuples():
    params = SamplingParams(stop_token_ids=[1, 2], allowed_token_ids=range(2), processors=[print])
    assert params.stop_token_ids == (1, 2)
    assert params.allowed_token_ids == (0, 1)
    assert params.processors == (print,)


def test_biases_are_copied():
    bias = {1: 2.0}
    params = SamplingParams(logit_bias=bias)
    bias[1] = 1e9
    assert params.logit_bias == {1: 2.0}


def test_a_message_tells_the_value_and_the_range():
    with pytest.raises(UserError, match=r"top_p is 1\.5; it must be above 0\.0 to 1\.0"):
        SamplingParams(top_p=1.5)


def test_min_tokens_above_max_tokens_tells_both():
    with pytest.raises(UserError, match="min_tokens is 9; max_tokens is only 8"):
        SamplingParams(min_tokens=9, max_tokens=8)


def test_temperature_zero_is_greedy():
    assert SamplingParams(temperature=0).greedy
    assert not SamplingParams(temperature=0.01).greedy


@pytest.mark.parametrize("token", [-1, 10, True, "1", 1.0])
def test_token_ids_are_checked_against_the_vocabulary(token):
    with pytest.raises(UserError, match=r"stop_token_ids has .* token ids are 0 to 9"):
        SamplingParams(stop_token_ids=[token]).check_tokens(10)
