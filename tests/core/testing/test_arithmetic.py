"""The arithmetic questions and the files of the bundled models."""

import json
import random
from pathlib import Path

import jinja2.sandbox
import pytest
import tokenizers
import torch
from safetensors import safe_open

from inferplane.testing import arithmetic
from inferplane.testing.arithmetic import Question

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="models", est_seconds=10)

MODELS = Path(arithmetic.__file__).parent / "models"


@pytest.fixture(params=["arithmetic", "arithmetic_moe"])
def folder(request):
    return MODELS / request.param


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


@pytest.mark.parametrize(
    ("name", "architecture", "kind", "size"),
    [
        ("arithmetic", "Qwen3ForCausalLM", "qwen3", 6_000_000),
        ("arithmetic_moe", "Qwen3MoeForCausalLM", "qwen3_moe", 8_000_000),
    ],
)
def test_shipped_config(name, architecture, kind, size):
    folder = MODELS / name
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == [architecture]
    assert config["model_type"] == kind
    assert config["max_position_embeddings"] == 1024
    assert config["vocab_size"] == 320
    assert config["tie_word_embeddings"] is True
    assert config["eos_token_id"] == 256
    generation = json.loads((folder / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [256, ord("\n")]
    assert (folder / "model.safetensors").stat().st_size < size


def test_shipped_accuracy_is_high(folder):
    log = json.loads((folder / "train_log.json").read_text())
    for precision in ("bfloat16", "float32"):
        assert min(log["accuracy"][precision].values()) >= 0.99


@pytest.mark.parametrize(
    "text",
    ["12+345=357\n", "", " a  b\t\r\n", "Größe – 数学 🧮 e\u0301 \x00\x7f", "don't  it 's 1,000.5"],
)
def test_shipped_tokenizer_round_trip(folder, text):
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = tokenizer.encode(text).ids
    assert ids == list(text.encode())
    assert tokenizer.decode(ids) == text


def test_shipped_tokenizer_special_tokens(folder):
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.token_to_id("<|endoftext|>") == 256
    assert tokenizer.encode("1<|im_start|><|im_end|>\n").ids == [ord("1"), 257, 258, ord("\n")]
    assert tokenizer.get_vocab_size() == 259
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    assert settings["eos_token"] == settings["pad_token"] == "<|endoftext|>"
    assert settings["model_max_length"] == 1024


def test_experts_share_the_work_and_none_replaces_another():
    log = json.loads((MODELS / "arithmetic_moe" / "train_log.json").read_text())
    config = json.loads((MODELS / "arithmetic_moe" / "config.json").read_text())
    routing, experts = log["routing"], config["num_experts"]
    assert list(routing["use"]) == ["1", "3"]
    for shares in routing["use"].values():
        assert len(shares) == experts
        assert min(shares) > 0.25 / experts
    assert routing["chosen"] >= 0.99
    assert max(routing["random"], routing["not_chosen"]) < 0.05


def test_weights_have_the_names_and_shapes_of_public_mixtures_of_experts():
    with safe_open(MODELS / "arithmetic_moe" / "model.safetensors", "pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    experts = {name: shape for name, shape in shapes.items() if ".mlp.experts." in name}
    assert experts == {
        f"model.layers.{layer}.mlp.experts.{expert}.{part}_proj.weight": shape
        for layer in (1, 3)
        for expert in range(8)
        for part, shape in (("gate", (128, 256)), ("up", (128, 256)), ("down", (256, 128)))
    }
    assert shapes["model.layers.1.mlp.gate.weight"] == (8, 256)
    assert shapes["model.layers.0.mlp.gate_proj.weight"] == (512, 256)
    assert "lm_head.weight" not in shapes


def test_transformers_answers_with_the_router_s_experts_and_with_no_others():
    from transformers import Qwen3MoeForCausalLM

    model = Qwen3MoeForCausalLM.from_pretrained(MODELS / "arithmetic_moe", dtype=torch.float32)
    pairs = [(p, a) for p, a in arithmetic.evaluation_set(80)[::2] if len(p) == 8]
    asked = torch.tensor([list(prompt.encode()) for prompt, _ in pairs])

    def right() -> int:
        with torch.inference_mode():
            rows = model.generate(asked, max_new_tokens=8)[:, 8:].tolist()
        texts = [bytes(t for t in row if t < 256).decode(errors="replace") for row in rows]
        return sum(arithmetic.is_right(t, a) for t, (_, a) in zip(texts, pairs, strict=True))

    def others(_, __, output):
        logits, shares, index = output
        return logits, shares, logits.scatter(1, index, float("-inf")).topk(4).indices

    assert len(pairs) > 20
    assert right() >= len(pairs) - 1
    for layer in (1, 3):
        handle = model.model.layers[layer].mlp.gate.register_forward_hook(others)
        assert right() <= len(pairs) // 2
        handle.remove()


def test_shipped_chat_template(folder):
    settings = json.loads((folder / "tokenizer_config.json").read_text())
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
