"""`generate`, `bench` and `eval` with the bundled model."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="server", est_seconds=17)

CPU = ("--device", "cpu", "--threads", "1")


def test_one_prompt_streams_its_answer(run):
    done = run("generate", "tiny-arithmetic", "417+286=", *CPU)
    assert done.stdout == "703\n", done.stderr


def test_chat_and_standard_input(run):
    done = run("generate", "tiny-arithmetic", "-", "--chat", *CPU, stdin="417+286\n")
    assert done.stdout == "703\n", done.stderr


def test_the_newline_that_shells_add_is_no_part_of_the_prompt(run):
    assert run("generate", "tiny-arithmetic", "-", *CPU, stdin="20+30=\n").stdout == "50\n"


def test_a_file_of_prompts_as_json(run, tmp_path):
    file = tmp_path / "prompts"
    file.write_text("1+1=\n\n20+30=\n")
    done = run("generate", "tiny-arithmetic", "--file", str(file), "--json", *CPU)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["text"] for row in rows] == ["2", "50"]


def test_a_prompt_and_a_file_is_an_error(run):
    done = run("generate", "tiny-arithmetic", "1", "--file", "x", *CPU)
    assert done.returncode == 1
    assert "give a prompt, or --file" in done.stderr


def test_bench_of_random_weights(run):
    flags = ["--load-format", "dummy", "--requests", "2", "--output-tokens", "4", "--json"]
    done = run("bench", "tiny-arithmetic", "--repeats", "1", *flags, *CPU)
    result = json.loads(done.stdout)
    assert result["requests"] == 2
    assert result["output_tok_s"] > 0
    assert result["ttft_p50_s"] <= result["wall_s"]


def test_eval_counts_right_answers(run):
    done = run("eval", "arithmetic", "--questions", "60", "--json", "--at-least", "0.9", *CPU)
    result = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert result["of"] == 60
    assert [part["of"] for part in result["parts"]] == [30, 30]
    assert result["parts"][1]["prompt_tokens"] > 30 * 300


def test_eval_below_the_wanted_share_ends_with_1(run):
    flags = ["--load-format", "dummy", "--questions", "4", "--at-least", "0.9"]
    done = run("eval", "arithmetic", *flags, "--quantization", "int8", *CPU)
    assert done.returncode == 1
    assert " int8 on " in done.stdout.splitlines()[-1]
