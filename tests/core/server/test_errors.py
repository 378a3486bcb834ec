"""Bad input: a clear error in OpenAI's shape, and the server goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import httpx
import pytest

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="server", est_seconds=10)


@pytest.fixture(scope="module")
def server(start: Callable) -> object:
    return start("--max-model-len", "64", "--max-num-seqs", "2", "--max-waiting", "2")


def completion(**fields: object) -> dict[str, object]:
    return {"model": "tiny", "prompt": "1+1=", "temperature": 0, **fields}


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"model": "other"}, 404, "no model 'other'"),
        ({"prompt": "1" * 64}, 400, "64 tokens"),
        ({"prompt": ""}, 400, "empty"),
        ({"prompt": [1, 999999]}, 400, "999999"),
        ({"prompt": [1, -1]}, 400, "-1"),
        ({"prompt": {"a": 1}}, 400, "prompt"),
        ({"max_tokens": -1}, 400, "max_tokens is -1"),
        ({"max_tokens": "many"}, 400, "max_tokens"),
        ({"temperature": -0.5}, 400, "temperature is -0.5"),
        ({"temperature": "NaN"}, 400, "temperature"),
        ({"top_p": 0}, 400, "top_p"),
        ({"n": 1000000}, 400, "n is 1000000"),
        ({"n": 0}, 400, "n is 0"),
        ({"logprobs": 1000}, 400, "logprobs is 1000"),
        ({"logit_bias": {"x": 1}}, 400, "logit_bias"),
        ({"logit_bias": {"999999": 1}}, 400, "999999"),
        ({"stop": [""]}, 400, "stop"),
        ({"seed": "one"}, 400, "seed"),
        ({"suffix": "x"}, 400, "suffix is not supported"),
        ({"guided_choice": ["3"]}, 400, "guided_choice is not supported"),
        ({"best_of": 2}, 400, "best_of other than 1 is not supported"),
        ({"max_tokns": 1}, 400, "no field 'max_tokns' (did you mean 'max_tokens'?)"),
        ({"max_completion_tokens": -1}, 400, "max_completion_tokens is -1"),
    ],
)
def test_bad_fields_are_named(server, fields, status, words):
    answer = server.post("/v1/completions", completion(**fields))
    assert answer.status_code == status
    error = answer.json()["error"]
    assert words in error["message"]
    assert set(error) == {"message", "type", "param", "code"}
    assert server.post("/v1/completions", completion()).status_code == 200


def test_fields_that_clients_add_are_ignored(server):
    added = {"max_new_tokens": 3, "store": False, "metadata": {}, "service_tier": "auto"}
    added |= {"add_special_tokens": True, "length_penalty": 1.0, "prompt_cache_key": "x"}
    added |= {"models": ["tiny"], "include": ["usage"], "cache": True, "best_of": 1}
    answer = server.post("/v1/completions", completion(**added))
    assert answer.status_code == 200, answer.text


def test_nulls_are_defaults(server):
    names = ("n", "stream", "stop", "top_p", "top_k", "seed", "logprobs", "presence_penalty")
    nulls = dict.fromkeys((*names, "max_tokens", "stop_token_ids", "guided_json", "modl"))
    answer = server.post("/v1/completions", completion(**nulls))
    assert answer.status_code == 200, answer.text
    chat = {"model": "tiny", "messages": [{"role": "user", "content": "1+1"}], "temperature": 0}
    nulls |= dict.fromkeys(("tools", "chat_template", "chat_template_kwargs", "top_logprobs"))
    answer = server.post("/v1/chat/completions", {**chat, **nulls})
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == "2"


@pytest.mark.parametrize("body", [b"{", b"", b"[]", b'{"model": 1}', b"\xff\xfe"])
def test_bodies_that_are_no_request(server, body):
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(server.url + "/v1/completions", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_nan_as_a_bare_word_is_refused(server):
    body = b'{"model": "tiny", "prompt": "1", "temperature": NaN}'
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(server.url + "/v1/completions", content=body, headers=headers)
    assert answer.status_code == 400


def test_unknown_paths_and_methods(server):
    assert server.post("/v1/nothing", {}).status_code == 404
    answer = httpx.get(server.url + "/v1/completions")
    assert answer.status_code == 405
    assert "error" in answer.json()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "image_url"),
        ({"tools": [{"type": "function"}]}, "tools is not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format is not supported"),
        ({"top_logprobs": 2}, "top_logprobs needs logprobs"),
        ({"chat_template": "{{ messages }}"}, "chat_template is not supported"),
        ({"add_generation_prompt": False}, "add_generation_prompt other than true is not"),
        ({"max_completion_tokens": 0, "max_tokens": 4}, "max_completion_tokens is 0"),
    ],
)
def test_bad_chats(server, fields, words):
    body = {"model": "tiny", "messages": [{"role": "user", "content": "1+1"}], **fields}
    answer = server.post("/v1/chat/completions", body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]


def test_a_full_queue_answers_429(server):
    os.kill(server.engine, signal.SIGSTOP)  # so that the first request cannot end before the second
    try:
        first = completion(n=4, stream=True)
        with httpx.stream("POST", server.url + "/v1/completions", json=first, timeout=60) as open_:
            assert open_.status_code == 200
            answer = server.post("/v1/completions", completion(n=4))
            assert answer.status_code == 429
            assert answer.json()["error"]["type"] == "rate_limit_error"
    finally:
        os.kill(server.engine, signal.SIGCONT)
    server.idle()
    assert server.post("/v1/completions", completion()).status_code == 200
