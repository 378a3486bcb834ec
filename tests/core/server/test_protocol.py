"""Bodies of requests, without a server."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from inferplane.server.errors import APIError
from inferplane.server.protocol import ChatRequest, CompletionRequest

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)


def completion(**fields: object) -> CompletionRequest:
    return CompletionRequest.model_validate({"model": "m", "prompt": "1", **fields})


def chat(**fields: object) -> ChatRequest:
    messages = [{"role": "user", "content": "1"}]
    return ChatRequest.model_validate({"model": "m", "messages": messages, **fields})


@pytest.mark.parametrize("make", [completion, chat])
def test_null_is_the_default(make):
    body = make()
    names = set(type(body).model_fields) - {"model", "prompt", "messages"}
    assert make(**dict.fromkeys(names)) == body
    assert make(stream_options={"include_usage": None}).stream_options.include_usage is False


def test_null_does_not_stand_for_what_is_needed():
    with pytest.raises(ValidationError, match=r"prompt\n  Field required"):
        completion(prompt=None)


def test_the_newer_name_of_max_tokens_counts():
    assert completion().completion_params().max_tokens == 16
    assert completion(max_completion_tokens=3).completion_params().max_tokens == 3
    assert completion(max_completion_tokens=3, max_tokens=9).most_tokens == 3
    assert completion(max_completion_tokens=0, echo=True).scores_only
    assert chat(max_completion_tokens=3, max_tokens=9).most_tokens == 3
    assert chat(max_tokens=9).most_tokens == 9
    with pytest.raises(APIError) as error:
        completion(max_completion_tokens=2, min_tokens=3).completion_params()
    assert error.value.message == "min_tokens is 3; max_completion_tokens is only 2"
    assert error.value.param == "min_tokens"


def test_best_of_as_many_as_are_given_is_what_is_done():
    completion(best_of=1).refuse()
    completion(best_of=2, n=2).refuse()
    with pytest.raises(APIError, match="best_of other than 2 is not supported"):
        completion(best_of=3, n=2).refuse()
