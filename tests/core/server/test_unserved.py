"""Fields that are refused, and those that are ignored."""

from __future__ import annotations

import pytest
from openai.types import completion_create_params
from openai.types.chat import completion_create_params as chat_create_params

from inferplane.server.errors import APIError
from inferplane.server.protocol import ChatRequest, CompletionRequest
from inferplane.server.unserved import CHAT, COMPLETIONS, refuse

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)

BODIES = [(CompletionRequest, COMPLETIONS), (ChatRequest, CHAT)]
CHANGES = {
    "guided_json": {"type": "object"},
    "guided_regex": "[0-9]+",
    "guided_choice": ["a", "b"],
    "guided_grammar": "root ::= 'a'",
    "structured_outputs": {"choice": ["a"]},
    "response_format": {"type": "json_object"},
    "use_beam_search": True,
    "truncate_prompt_tokens": 4,
    "bad_words": ["a"],
}
CHANGES_CHAT = {
    "tools": [{"type": "function"}],
    "tool_choice": "auto",
    "chat_template": "{{ messages }}",
    "continue_final_message": True,
    "documents": [{"text": "a"}],
    "web_search_options": {"search_context_size": "low"},
    "add_generation_prompt": False,
    "add_special_tokens": True,
    "echo": True,
}
CHANGES_NOTHING = {
    "guided_json": "",
    "guided_choice": [],
    "structured_outputs": {},
    "use_beam_search": False,
    "response_format": {"type": "text"},
}


@pytest.mark.parametrize(("body", "unserved"), BODIES)
@pytest.mark.parametrize("name", CHANGES)
def test_what_would_change_the_answer_is_refused(body, unserved, name):
    with pytest.raises(APIError, match=f"{name} is not supported") as error:
        refuse({name: CHANGES[name]}, body.model_fields, unserved)
    assert (error.value.status, error.value.param) == (400, name)


@pytest.mark.parametrize("name", CHANGES_CHAT)
def test_what_would_change_a_chat_is_refused(name):
    with pytest.raises(APIError, match=f"{name} .*is not supported"):
        refuse({name: CHANGES_CHAT[name]}, ChatRequest.model_fields, CHAT)


def test_other_tokens_of_a_prompt_are_refused():
    words = "add_special_tokens other than true is not supported"
    with pytest.raises(APIError, match=words):
        refuse({"add_special_tokens": False}, CompletionRequest.model_fields, COMPLETIONS)


@pytest.mark.parametrize(("body", "unserved"), BODIES)
def test_what_asks_for_nothing_is_no_error(body, unserved):
    refuse(CHANGES_NOTHING, body.model_fields, unserved)


def test_what_a_chat_does_anyway_may_be_asked_for():
    asked = {"add_generation_prompt": True, "continue_final_message": False, "tool_choice": "none"}
    refuse(asked, ChatRequest.model_fields, CHAT)


@pytest.mark.parametrize("name", ["max_tokns", "temprature", "top_logprob", "mesages"])
def test_misspelt_fields_are_refused(name):
    with pytest.raises(APIError, match=f"no field '{name}' .did you mean"):
        refuse({name: 1}, ChatRequest.model_fields, CHAT)


@pytest.mark.parametrize("name", ["models", "mode", "include", "cache", "max_new_tokens", "top_a"])
@pytest.mark.parametrize(("body", "unserved"), BODIES)
def test_fields_of_other_servers_are_not_misspelt(body, unserved, name):
    refuse({name: "x"}, body.model_fields, unserved)


def test_no_field_of_the_openai_package_is_taken_for_a_misspelt_one():
    bodies = (
        (chat_create_params, ChatRequest, CHAT),
        (completion_create_params, CompletionRequest, COMPLETIONS),
    )
    for module, body, unserved in bodies:
        names = set(module.CompletionCreateParamsBase.__annotations__)
        assert len(names) > 10
        others = names - set(body.model_fields) - set(unserved)
        refuse(dict.fromkeys(others, "x"), body.model_fields, unserved)
