"""The `openai` package, unmodified, against the server."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="server", est_seconds=9)


@pytest.fixture(scope="module")
def server(start: Callable) -> object:
    return start("--max-num-seqs", "8", "--num-pages", "200")


@pytest.fixture(scope="module")
def client(server) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)


def ask(client: openai.OpenAI, text: str, **options) -> object:
    return client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": text}], temperature=0, **options
    )


def test_models_are_listed(client):
    assert [m.id for m in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"


def test_chat_answers_and_counts_tokens(client):
    answer = ask(client, "12+345")
    assert answer.choices[0].message.content == "357"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens == len("12+345=")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_what_the_package_may_add_is_no_error(client):
    events = ask(
        client,
        "12+345",
        stream=True,
        stream_options={"include_usage": True, "include_obfuscation": False},
        seed=1,
        logit_bias={"49": 0},
        parallel_tool_calls=True,
        service_tier="auto",
        store=False,
        metadata={"a": "b"},
        modalities=["text"],
        reasoning_effort="low",
        prompt_cache_key="a",
        safety_identifier="b",
        verbosity="low",
        user="c",
        max_completion_tokens=8,
        response_format={"type": "text"},
        tool_choice="none",
    )
    assert "".join(e.choices[0].delta.content or "" for e in events if e.choices) == "357"


def test_a_stream_gives_the_same_text(client):
    stream = ask(client, "12+345", stream=True, stream_options={"include_usage": True})
    events = list(stream)
    text = "".join(e.choices[0].delta.content or "" for e in events if e.choices)
    assert text == "357"
    assert events[-1].usage.completion_tokens == 4
    assert [e.choices[0].finish_reason for e in events if e.choices][-1] == "stop"


def test_earlier_turns_are_part_of_the_prompt(client):
    messages = [
        {"role": "system", "content": "ignored"},
        {"role": "user", "content": "1+1"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": [{"type": "text", "text": "20+30="}]},
    ]
    answer = client.chat.completions.create(model="tiny", messages=messages, temperature=0)
    assert answer.choices[0].message.content == "50"


def test_completions_of_texts_and_ids(client):
    answer = client.completions.create(
        model="tiny", prompt=["1+2=", "10+20="], temperature=0, echo=True
    )
    assert [c.text for c in answer.choices] == ["1+2=3", "10+20=30"]
    ids = client.completions.create(model="tiny", prompt=[49, 43, 50, 61], temperature=0)
    assert ids.choices[0].text == "3"


def score(client, **changes):
    asked = {"model": "tiny", "prompt": "1+2=", "temperature": 0, "echo": True, "logprobs": 2}
    return client.completions.create(**(asked | changes))


def test_echo_with_logprobs_scores_the_prompt(client):
    choice = score(client, max_tokens=1).choices[0]
    assert choice.text == "1+2=3"
    assert choice.logprobs.tokens == ["1", "+", "2", "=", "3"]
    assert choice.logprobs.text_offset == [0, 1, 2, 3, 4]
    assert choice.logprobs.token_logprobs[0] is None
    assert choice.logprobs.top_logprobs[0] is None
    assert all(value <= 0 for value in choice.logprobs.token_logprobs[1:])
    assert choice.logprobs.token_logprobs[4] > -0.1  # the answer is right, and it knows
    assert all(2 <= len(best) <= 3 for best in choice.logprobs.top_logprobs[1:])


def test_no_tokens_and_echo_gives_the_prompts_scores_only(client):
    answer = score(client, max_tokens=0)
    assert answer.choices[0].text == "1+2="
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 0
    whole = score(client, max_tokens=1).choices[0].logprobs.token_logprobs
    assert answer.choices[0].logprobs.token_logprobs == whole[:4]


def test_no_tokens_without_echo_is_refused(client):
    with pytest.raises(openai.BadRequestError, match="max_tokens is 0"):
        score(client, max_tokens=0, echo=False)


def test_streaming_echo_with_logprobs(client):
    whole = score(client, max_tokens=2).choices[0]
    text, values = "", []
    for event in score(client, max_tokens=2, stream=True):
        text += event.choices[0].text
        if event.choices[0].logprobs:
            values += event.choices[0].logprobs.token_logprobs
    assert text == whole.text
    assert values == whole.logprobs.token_logprobs


def test_streaming_no_tokens_and_echo(client):
    events = list(score(client, max_tokens=0, stream=True))
    assert "".join(event.choices[0].text for event in events) == "1+2="
    assert events[-1].choices[0].finish_reason == "length"


def test_several_streams_of_one_call(client):
    texts = {0: "", 1: "", 2: "", 3: ""}
    for event in client.completions.create(
        model="tiny", prompt=["1+2=", "10+20="], temperature=0, n=2, stream=True
    ):
        texts[event.choices[0].index] += event.choices[0].text
    assert texts == {0: "3", 1: "3", 2: "30", 3: "30"}


def test_n_and_seed(client):
    def sample(seed: int) -> list[str]:
        answer = client.completions.create(
            model="tiny",
            prompt="1",
            n=4,
            seed=seed,
            temperature=5.0,
            max_tokens=12,
            extra_body={"ignore_eos": True},
        )
        return [c.text for c in answer.choices]

    first = sample(7)
    assert first == sample(7)
    assert len(set(first)) > 1
    assert first != sample(8)


def test_logprobs_of_both_apis(client):
    chat = ask(client, "12+345", logprobs=True, top_logprobs=3)
    first = chat.choices[0].logprobs.content[0]
    assert first.token == "3"
    assert len(first.top_logprobs) == 3
    assert first.logprob == max(entry.logprob for entry in first.top_logprobs)
    plain = client.completions.create(model="tiny", prompt="12+345=", temperature=0, logprobs=2)
    found = plain.choices[0].logprobs
    assert found.tokens[:3] == ["3", "5", "7"]
    assert found.token_logprobs[0] == pytest.approx(first.logprob, abs=1e-4)


def test_stop_text_ends_and_is_left_out(client):
    answer = client.completions.create(
        model="tiny", prompt="12+345=", temperature=0, stop=["57"], max_tokens=16
    )
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("3", "stop")


def test_32_clients_at_once_and_then_all_pages_are_free(client, server):
    sums = [(a, 3 * a) for a in range(32)]

    def one(pair: tuple[int, int]) -> str:
        text = ""
        for event in ask(client, f"{pair[0]}+{pair[1]}", stream=True):
            text += event.choices[0].delta.content or ""
        return text

    with ThreadPoolExecutor(32) as pool:
        streamed = list(pool.map(one, sums))
    alone = [ask(client, f"{a}+{b}").choices[0].message.content for a, b in sums]
    assert streamed == alone
    found = server.idle()
    assert found["error"] == ""
    assert all(page["in_use"] == 0 for page in found["stats"]["pages"])


def test_clients_that_leave_midway_free_their_pages(client, server):
    def leave(number: int) -> None:
        stream = client.completions.create(
            model="tiny",
            prompt=f"{number}+1=",
            max_tokens=900,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        for at, _ in enumerate(stream):
            if at == 3:
                stream.close()
                return

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(leave, range(16)))
    found = server.idle()
    assert found["error"] == ""
    assert all(page["in_use"] == 0 for page in found["stats"]["pages"])
    assert ask(client, "1+1").choices[0].message.content == "2"
