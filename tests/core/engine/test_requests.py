"""From what a user asks to engine requests: every check, with the numbers in its message."""

import numpy as np
import pytest

from inferplane.engine.requests import RequestMaker
from inferplane.errors import UserError
from inferplane.params import SamplingParams

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=3)


def make(prompt=(1, 2, 3), *, eos=(9,), **params):
    maker = RequestMaker(None, vocab=50, eos=eos, max_length=20)
    return maker.make("7", prompt, SamplingParams(**params))


@pytest.mark.parametrize(
    "prompt",
    [
        [1, 2, 3],
        (1, 2, 3),
        np.array([1, 2, 3]),
        {"prompt_token_ids": [1, 2, 3]},
        {"prompt_token_ids": np.array([1, 2, 3], dtype=np.int32)},
    ],
    ids=range(5),
)
def test_token_ids_in_every_form(prompt):
    pending, requests = make(prompt)
    assert pending.prompt_ids == [1, 2, 3]
    assert requests[0].tokens.tolist() == [1, 2, 3]


@pytest.mark.parametrize("token", [-1, 50, 10**30])
def test_an_id_outside_of_the_vocabulary_is_named(token):
    with pytest.raises(UserError, match=f"token {token} is out of range 0 to 49"):
        make([1, token])


@pytest.mark.parametrize("token", ["1", 1.0, True, None, [1]])
def test_an_id_that_is_no_whole_number_is_named(token):
    with pytest.raises(UserError, match="is not a whole number"):
        make([1, token])


@pytest.mark.parametrize("prompt", [5, None, 1.5])
def test_a_prompt_of_a_wrong_kind_is_refused(prompt):
    with pytest.raises(UserError, match="must be a text, token ids or a mapping"):
        make({"prompt_token_ids": prompt})


def test_a_mapping_without_a_prompt_is_refused():
    with pytest.raises(UserError, match="'prompt' or 'prompt_token_ids'"):
        make({"text": "a"})


def test_an_empty_prompt_is_refused():
    with pytest.raises(UserError, match="the prompt is empty"):
        make([])


def test_a_text_needs_a_tokenizer():
    with pytest.raises(UserError, match="give token ids"):
        make({"prompt": "a"})


@pytest.mark.parametrize("length", [20, 21, 500])
def test_a_prompt_that_is_too_long_is_refused_with_the_numbers(length):
    with pytest.raises(UserError) as caught:
        make([1] * length)
    assert f"has {length} tokens" in str(caught.value)
    assert "at most 19" in str(caught.value)
    assert "max-model-len is 20" in str(caught.value)


def test_the_longest_prompt_has_one_token_left():
    assert make([1] * 19, max_tokens=100)[1][0].max_tokens == 1


def test_max_tokens_of_none_is_all_that_is_left():
    assert make(max_tokens=None)[1][0].max_tokens == 17


@pytest.mark.parametrize("name", ["stop_token_ids", "allowed_token_ids"])
def test_ids_of_parameters_are_checked_too(name):
    with pytest.raises(UserError, match=f"{name} has 50; token ids are 0 to 49"):
        make(**{name: [50]})


def test_ids_of_biases_are_checked_too():
    with pytest.raises(UserError, match=r"logit_bias has '3'"):
        make(logit_bias={"3": 1.0})


def test_stop_ids_are_the_models_and_the_requests_without_repeats():
    assert make(stop_token_ids=(4, 9))[1][0].stop_ids == (9, 4)


def test_ignored_end_tokens_are_no_stop_ids():
    assert make(stop_token_ids=(4,), ignore_eos=True)[1][0].stop_ids == (4,)


def test_one_request_a_completion_with_seeds_of_their_own():
    pending, requests = make(n=3, seed=5)
    assert [r.id for r in requests] == ["7-0", "7-1", "7-2"]
    assert list(pending.parts) == ["7-0", "7-1", "7-2"]
    assert len({r.sampling.seed for r in requests}) == 3


def test_the_first_completion_alone_reports_on_the_prompt():
    _, requests = make(n=3, prompt_logprobs=1)
    assert [r.wants_prompt for r in requests] == [True, False, False]


@pytest.mark.parametrize("seed", [0, -1, (1 << 64) - 1])
def test_seeds_are_kept_modulo_64_bits(seed):
    maker = RequestMaker(None, vocab=50, eos=(), max_length=20)
    _, requests = maker.make("7", [1], SamplingParams(seed=seed))
    assert requests[0].sampling.seed == seed % (1 << 64)


def test_the_base_seed_decides_seeds_that_are_not_given():
    found = [make(seed=None)[1][0].sampling.seed for _ in range(2)]
    assert found[0] == found[1]
