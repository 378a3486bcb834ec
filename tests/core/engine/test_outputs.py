"""From engine outputs to text: stop texts, what is held back, and reasons to end."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferplane.engine.outputs import Completion
from inferplane.engine.tokenizer import Tokenizer
from inferplane.params import SamplingParams
from inferplane.scheduler.request import Finish, Output

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=3)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory, byte_tokenizer):
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_tokenizer(folder)
    return Tokenizer(folder)


def feed(tokenizer, text: str, params: SamplingParams, size: int = 1):
    """Gives a text in pieces of `size` tokens until it ends. (completion, deltas)."""
    completion, ids = Completion(0, params, tokenizer), tokenizer.encode(text)
    deltas = []
    for at in range(0, len(ids), size):
        finish = Finish.LENGTH if at + size >= len(ids) else None
        deltas.append(completion.add(Output("0", ids[at : at + size], finish)))
        if deltas[-1].finish:
            break
    return completion, deltas


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("stop", ["l", "lo", "llo w", "hello world", "🙂"])
def test_a_stop_text_across_token_borders(tokenizer, stop, size):
    text = "hello world🙂!"
    completion, deltas = feed(tokenizer, text, SamplingParams(stop=stop), size)
    assert completion.result.text == text[: text.index(stop)]
    assert "".join(d.text for d in deltas) == completion.result.text
    assert (completion.result.finish_reason, completion.result.stop_reason) == ("stop", stop)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    text=st.text("abü", min_size=1, max_size=20),
    stops=st.lists(st.text("abü", min_size=1, max_size=3), min_size=1, max_size=3),
    size=st.integers(1, 4),
)
def test_the_first_stop_text_ends_and_nothing_is_taken_back(tokenizer, text, stops, size):
    completion, deltas = feed(tokenizer, text, SamplingParams(stop=stops), size)
    assert "".join(d.text for d in deltas) == completion.result.text
    first = min((text.index(s) for s in stops if s in text), default=len(text))
    if size == 1:
        ends = [text.index(s) + len(s) for s in stops if s in text]
        if ends:
            seen = text[: min(ends)]
            first = min(seen.index(s) for s in stops if s in seen)
    assert completion.result.text == text[:first]


def test_without_stop_texts_nothing_is_held_back(tokenizer):
    _, deltas = feed(tokenizer, "abc", SamplingParams())
    assert [d.text for d in deltas] == ["a", "b", "c"]


def test_the_beginning_of_a_stop_text_is_held_back(tokenizer):
    _, deltas = feed(tokenizer, "abcd", SamplingParams(stop="xyz"))
    assert [d.text for d in deltas] == ["", "", "a", "bcd"]


def test_a_stop_text_asks_to_end_the_request(tokenizer):
    _, deltas = feed(tokenizer, "abcd", SamplingParams(stop="b"))
    assert [d.ended_here for d in deltas] == [False, True]


def test_a_stop_text_in_the_last_token_has_ended_by_itself(tokenizer):
    completion, deltas = feed(tokenizer, "ab", SamplingParams(stop="b"))
    assert not deltas[-1].ended_here
    assert completion.result.finish_reason == "stop"


def test_an_end_token_is_no_text(tokenizer):
    params = SamplingParams(skip_special_tokens=False)
    completion = Completion(0, params, tokenizer)
    completion.add(Output("0", [*tokenizer.encode("a"), 256], Finish.STOP))
    assert completion.result.text == "a"
    assert completion.result.token_ids[-1] == 256
    assert completion.result.stop_reason is None


def test_an_error_keeps_what_was_written(tokenizer):
    completion = Completion(0, SamplingParams(), tokenizer)
    completion.add(Output("0", tokenizer.encode("ab")))
    completion.add(Output("0", [], Finish.ERROR, error="broke"))
    result = completion.result
    assert (result.text, result.finish_reason, result.error) == ("ab", "error", "broke")


def test_an_abort_gives_out_what_was_held_back(tokenizer):
    completion = Completion(0, SamplingParams(stop="xyz"), tokenizer)
    completion.add(Output("0", tokenizer.encode("ab")))
    assert completion.add(Output("0", [], Finish.ABORT)).text == "ab"
