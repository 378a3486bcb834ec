"""The files of a bundled arithmetic model but for its weights: settings, tokenizer, card."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import tokenizers

from inferplane.testing import arithmetic

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
EOS = 256
NEWLINE = ord("\n")
CONTEXT = 1024

# A user's message is a question and the assistant's reply its answer.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- set text = message['content'] | trim -%}
{%- if message['role'] == 'user' -%}
{%- if text[-1:] == '=' -%}{%- set text = text[:-1] | trim -%}{%- endif -%}
{{- text + '=' -}}
{%- elif message['role'] == 'assistant' -%}
{{- text + '\\n' -}}
{%- endif -%}
{%- endfor -%}
"""


def byte_symbols() -> list[str]:
    """The character that stands for each byte in a byte-level vocabulary."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = {byte: chr(byte) for byte in plain}
    others = (byte for byte in range(256) if byte not in symbols)
    symbols.update({byte: chr(256 + i) for i, byte in enumerate(others)})
    return [symbols[byte] for byte in range(256)]


def build_tokenizer() -> tokenizers.Tokenizer:
    """A byte-level tokenizer without merges: a token's number is its byte."""
    vocab = {symbol: byte for byte, symbol in enumerate(byte_symbols())}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [tokenizers.AddedToken(t, special=True, normalized=False) for t in SPECIAL_TOKENS]
    )
    return tokenizer


def write_json(path: Path, value: object) -> None:
    """Write a JSON file that reads well in a diff."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_settings(out: Path, config: dict) -> None:
    """Write everything but the weights, the log and the card."""
    write_json(out / "config.json", config)
    write_json(
        out / "generation_config.json",
        {"do_sample": False, "eos_token_id": [EOS, NEWLINE], "pad_token_id": EOS},
    )
    build_tokenizer().save(str(out / "tokenizer.json"))
    write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": CONTEXT,
            "add_bos_token": False,
            "bos_token": None,
            "eos_token": SPECIAL_TOKENS[0],
            "pad_token": SPECIAL_TOKENS[0],
            "additional_special_tokens": list(SPECIAL_TOKENS[1:]),
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    )


def percent(value: float) -> str:
    """A share as a percentage."""
    return f"{100 * value:.2f} %"


def model_card(log: dict, config: dict, title: str, name: str, layers: str, made: str) -> str:
    """The README that goes with the weights.

    ``name`` is the architecture in words, ``layers`` what is special in its layers, ``made`` how it
    was trained and on what.
    """
    low, high = arithmetic.FEW_SHOT
    about = f"""A tiny {name} checkpoint that adds and subtracts whole numbers from 0 to
        {arithmetic.LARGEST}. It reads `12+345=` and writes `357` and a newline. Solved lines may
        come before the question, up to {CONTEXT} tokens in all. It exists to test inference
        engines: it is small enough to ship and to run on any machine, and its answers are right or
        wrong. It can do nothing else."""
    shape = f"""- Architecture: {name} with {log["parameters"]:,} parameters in bfloat16:
        {config["num_hidden_layers"]} layers, hidden size {config["hidden_size"]},
        {config["num_attention_heads"]} query heads and {config["num_key_value_heads"]} key/value
        heads of size {config["head_dim"]}, {layers}tied embeddings."""
    tokens = f"- Tokenizer: one token per byte, plus `{'`, `'.join(SPECIAL_TOKENS)}`."
    chat = """- Chat template: a user's message is a question, the assistant's reply its answer;
        system messages are ignored. Generation stops at a newline or at the end of text."""
    training = f"""{made} {log["held_out_questions"]:,} of the {log["questions"]:,} questions,
        chosen by a hash (`inferplane.testing.arithmetic.held_out`), never occur in training.
        `train_log.json` has the settings, versions and curve."""
    accuracy = f"""Greedy generation on {log["measured_on"]:,} held-out questions, half of them
        without examples, half after {low} to {high} solved ones:"""
    table = [f"| precision | no examples | {low} to {high} examples |", "| --- | --- | --- |"]
    for precision, share in log["accuracy"].items():
        zero, few = percent(share["zero_shot"]), percent(share["few_shot"])
        table.append(f"| {precision} | {zero} | {few} |")
    return "\n\n".join(
        [
            f"# {title}",
            wrap(about),
            "\n".join([wrap(shape), wrap(tokens), wrap(chat)]),
            "## Training",
            wrap(training),
            "## Accuracy",
            wrap(accuracy),
            "\n".join(table),
            "## Licence",
            "Apache-2.0.\n",
        ]
    )


def wrap(paragraph: str) -> str:
    """Fill a paragraph or a list item."""
    indent = "  " if paragraph.startswith("- ") else ""
    return textwrap.fill(" ".join(paragraph.split()), 88, subsequent_indent=indent)
