"""The arithmetic questions and the files of the bundled model."""

import json
import random
from pathlib import Path

import jinja2.sandbox
import pytest
import tokenizers

from inferplane.testing import arithmetic
from inferplane.testing.arithmetic import Question

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="models", est_seconds=5)

MODEL = Path(arithmetic.__file__).parent / "models" / "arithmetic"


def questions_in(prompt: str) -> list[Question]:
    """The questions of a prompt, one a line."""
    found = []
    for line in prompt.splitlines():
        text = line.split("=")[0]
        op = "+" if "+" in text else "-"
        a, b = text.split(op)
        found.append(Question(int(a), op, int(b)))
    return found


def test_question_text():
    assert Question(12, "+", 345).solved == "12+345=357\n"
    assert Question(12, "-", 345).solved == "12-345=-333\n"
    assert Question(0, "-", 0).text == "0-0="


def test_split_is_stable_and_about_three_per_cent():
    # These are fixed for ever: another split would put training questions into the evaluation.
    fixed = [(914, "+", 960), (993, "+", 396), (849, "+", 745), (132, "-", 870), (688, "-", 853)]
    assert all(arithmetic.held_out(Question(*parts)) for parts in fixed)
    held = [q for q in arithmetic.every_question() if arithmetic.held_out(q)]
    assert len(held) == 60284
    assert 0.48 < sum(q.op == "+" for q in held) / len(held) < 0.52


def test_samples_stay_on_their_side_of_the_split():
    rng = random.Random(1)
    for side in (False, True):
        drawn = [arithmetic.sample(rng, held_out=side) for _ in range(1000)]
        assert all(arithmetic.held_out(q) == side for q in drawn)
        long = sum(min(q.a, q.b) >= 100 for q in drawn)
        assert long > 600 if side else 300 < long < 550
        assert sum(min(q.a, q.b) < 10 for q in drawn) > 20
    drawn = [arithmetic.sample(rng, held_out=False) for _ in range(1000)]
    assert any(max(q.a, q.b) < 10 for q in drawn)


def test_prompt_has_solved_examples_none_of_them_held_out():
    rng = random.Random(2)
    question = arithmetic.sample(rng, held_out=True)
    text = arithmetic.prompt(rng, question, 50)
    *examples, last = questions_in(text)
    assert len(examples) == 50
    assert last == question
    assert not any(map(arithmetic.held_out, examples))
    assert text == "".join(q.solved for q in examples) + question.text
    assert arithmetic.prompt(rng, question, 0) == question.text


def test_evaluation_set_repeats_and_is_half_long():
    pairs = arithmetic.evaluation_set(200)
    assert pairs == arithmetic.evaluation_set(200)
    assert pairs[:50] == arithmetic.evaluation_set(50)
    assert pairs != arithmetic.evaluation_set(200, seed=1)
    for i, (prompt, answer) in enumerate(pairs):
        *examples, question = questions_in(prompt)
        assert arithmetic.held_out(question)
        assert question.answer == answer
        assert 40 <= len(examples) <= 60 if i % 2 else not examples
        assert 300 < len(prompt) < 1000 if i % 2 else len(prompt) <= 8


@pytest.mark.parametrize(
    ("completion", "right"),
    [
        ("357", True),
        ("357\n1+1=2\n", True),
        (" 357 \n", True),
        ("", False),
        ("35", False),
        ("3570", False),
        ("\n357", False),
        ("-357", False),
    ],
)
def test_is_right(completion, right):
    assert arithmetic.is_right(completion, "357") is right


def test_shipped_config():
    config = json.loads((MODEL / "config.json").read_text())
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    assert config["model_type"] == "qwen3"
    assert config["max_position_embeddings"] == 1024
    assert config["vocab_size"] == 320
    assert config["tie_word_embeddings"] is True
    assert config["eos_token_id"] == 256
    generation = json.loads((MODEL / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [256, ord("\n")]
    assert (MODEL / "model.safetensors").stat().st_size < 6_000_000


def test_shipped_accuracy_is_high():
    log = json.loads((MODEL / "train_log.json").read_text())
    for precision in ("bfloat16", "float32"):
        assert min(log["accuracy"][precision].values()) >= 0.99


@pytest.mark.parametrize(
    "text",
    ["12+345=357\n", "", " a  b\t\r\n", "Größe – 数学 🧮 e\u0301 \x00\x7f", "don't  it 's 1,000.5"],
)
def test_shipped_tokenizer_round_trip(text):
    tokenizer = tokenizers.Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    ids = tokenizer.encode(text).ids
    assert ids == list(text.encode())
    assert tokenizer.decode(ids) == text


def test_shipped_tokenizer_special_tokens():
    tokenizer = tokenizers.Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    assert tokenizer.token_to_id("<|endoftext|>") == 256
    assert tokenizer.encode("1<|im_start|><|im_end|>\n").ids == [ord("1"), 257, 258, ord("\n")]
    assert tokenizer.get_vocab_size() == 259
    settings = json.loads((MODEL / "tokenizer_config.json").read_text())
    assert settings["eos_token"] == settings["pad_token"] == "<|endoftext|>"
    assert settings["model_max_length"] == 1024


def test_shipped_chat_template():
    settings = json.loads((MODEL / "tokenizer_config.json").read_text())
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(settings["chat_template"])
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": " 1+2=\n"},
        {"role": "assistant", "content": "3"},
        {"role": "user", "content": "12+345"},
    ]
    assert template.render(messages=messages, add_generation_prompt=True) == "1+2=3\n12+345="
    assert template.render(messages=[{"role": "user", "content": "7-9 ="}]) == "7-9="
