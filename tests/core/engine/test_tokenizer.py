"""Text and tokens, chat templates in their sandbox, and text that arrives token by token."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models

from inferplane.engine.tokenizer import Detokenizer, Tokenizer
from inferplane.errors import UserError

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=10)

EXAMPLES = settings(max_examples=200, deadline=None, derandomize=True)


@pytest.fixture
def with_template(text_checkpoint):
    """(template) -> the tokenizer with it."""

    def make(template):
        config = {"eos_token": "<end>", "chat_template": template}
        (text_checkpoint / "tokenizer_config.json").write_text(json.dumps(config))
        return Tokenizer(text_checkpoint)

    return make


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory, byte_tokenizer):
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_tokenizer(folder)
    return Tokenizer(folder)


@pytest.fixture(scope="module")
def fallback(tmp_path_factory):
    """As Llama 2 has it: bytes as <0x..> tokens, and a leading space that decoding strips."""
    folder = tmp_path_factory.mktemp("fallback")
    vocab = {"<unk>": 0} | {f"<0x{b:02X}>": b + 1 for b in range(256)} | {"▁": 257, "▁a": 258}
    backend = Backend(models.BPE(vocab, [], unk_token="<unk>", byte_fallback=True))
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    backend.save(str(folder / "tokenizer.json"))
    return Tokenizer(folder)


# files


def test_a_missing_tokenizer_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"no tokenizer\.json.*--skip-tokenizer-init"):
        Tokenizer(tmp_path)


def test_a_damaged_tokenizer_is_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer\.json cannot be read"):
        Tokenizer(tmp_path)


def test_text_survives_a_round_trip(tokenizer):
    text = "Grüße, 世界 🙂\n"
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_end_token_is_known(tokenizer):
    assert tokenizer.eos == 256


@pytest.mark.parametrize("value", [None, 5, {"content": None}, "<not there>"])
def test_an_end_token_that_is_not_there(tmp_path, byte_tokenizer, value):
    byte_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": value}))
    assert Tokenizer(tmp_path).eos is None


# chat templates


def test_a_template_in_a_file_comes_first(text_checkpoint):
    (text_checkpoint / "chat_template.jinja").write_text("from the file")
    assert Tokenizer(text_checkpoint).chat([]) == "from the file"


def test_the_default_of_named_templates_is_taken(with_template):
    named = [{"name": "tools", "template": "a"}, {"name": "default", "template": "b"}]
    assert with_template(named).chat([]) == "b"


def test_variables_reach_the_template(with_template):
    assert with_template("{{ eos_token }}{{ thinking }}").chat([], thinking="yes") == "<end>yes"


def test_no_template_is_refused(with_template):
    with pytest.raises(UserError, match="no chat template"):
        with_template(None).chat([])


def test_a_template_may_refuse_messages(with_template):
    template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(UserError, match="roles must alternate"):
        with_template(template).chat([{"role": "user", "content": "a"}])


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.__class__.__base__.__subclasses__() }}",
        "{{ raise_exception.__globals__.json }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__.os }}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(with_template, template):
    with pytest.raises(UserError, match="refused"):
        with_template(template).chat([{"role": "user", "content": "a"}])


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ messages | attr('__class__') }}",
        "{{ '{0.__class__}'.format(messages) }}",
    ],
)
def test_hidden_attributes_are_empty_in_a_template(with_template, template):
    assert with_template(template).chat([{"role": "user", "content": "a"}]) == ""


@pytest.mark.parametrize("template", ["{{ unclosed", "{% for %}", "{{ 1 / 0 }}"])
def test_a_broken_template_is_refused(with_template, template):
    with pytest.raises(UserError, match="refused"):
        with_template(template).chat([])


def test_a_template_writes_json_as_it_is(with_template):
    assert with_template("{{ messages | tojson }}").chat([{"a": "<ü>"}]) == '[{"a": "<ü>"}]'


# token by token


def pieces(draw: st.DrawFn, ids: list[int]) -> list[list[int]]:
    found = []
    while ids:
        size = draw(st.integers(1, min(4, len(ids))))
        found.append(ids[:size])
        ids = ids[size:]
    return found


def written(tokenizer: Tokenizer, parts: list[list[int]]) -> tuple[str, str]:
    """(text of the detokenizer, what `add` and `finish` gave)."""
    made = Detokenizer(tokenizer)
    given = [made.add(part) for part in parts]
    given.append(made.finish())
    return made.text, "".join(given)


@EXAMPLES
@given(data=st.data(), text=st.text(max_size=20))
def test_unicode_split_over_bytes_is_whole(tokenizer, data, text):
    text = text.encode("utf-8", "replace").decode()
    parts = pieces(data.draw, tokenizer.encode(text))
    assert written(tokenizer, parts) == (text, text)


@EXAMPLES
@given(data=st.data(), ids=st.lists(st.integers(0, 255), max_size=20))
def test_any_bytes_give_what_decoding_at_once_gives(tokenizer, data, ids):
    whole = tokenizer.decode(ids)
    assert written(tokenizer, pieces(data.draw, ids)) == (whole, whole)


@EXAMPLES
@given(data=st.data(), words=st.lists(st.one_of(st.just(" a"), st.text(max_size=4)), max_size=6))
def test_byte_fallback_gives_what_decoding_at_once_gives(fallback, data, words):
    """Of whole characters. A broken byte takes back the bytes before it, which are out already."""
    ids = []
    for word in words:
        encoded = word.encode("utf-8", "replace")
        ids += [258] if word == " a" else [byte + 1 for byte in encoded]
    whole = fallback.decode(ids)
    assert written(fallback, pieces(data.draw, ids)) == (whole, whole)


def test_a_character_comes_when_it_is_complete(tokenizer):
    made = Detokenizer(tokenizer)
    assert [made.add([id]) for id in tokenizer.encode("🙂")] == ["", "", "", "🙂"]


def test_an_incomplete_character_comes_at_the_end(tokenizer):
    made = Detokenizer(tokenizer)
    for id in tokenizer.encode("a🙂")[:3]:
        made.add([id])
    assert made.finish() == "\N{REPLACEMENT CHARACTER}"
    assert made.text == "a\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(("skip", "text"), [(True, "ab"), (False, "a<end>b")])
def test_special_tokens(tokenizer, skip, text):
    made = Detokenizer(tokenizer, skip)
    for id in (*tokenizer.encode("a"), 256, *tokenizer.encode("b")):
        made.add([id])
    assert made.text == text
