"""A whole model in the engine on these kernels, in the interpreter."""

from __future__ import annotations

from pathlib import Path

import pytest

PROMPTS = ["12+7=", "3*4="]


@pytest.fixture
def platform(tmp_path, monkeypatch):
    """The test-only platform, found by its metadata as an installed one is."""
    info = tmp_path / "inferplane_triton_interpreter-1.0.dist-info"
    info.mkdir()
    name = "inferplane-triton-interpreter"
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    entry = "triton-interpreter = interpreter_platform\n"
    (info / "entry_points.txt").write_text("[inferplane.v0]\n" + entry)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def test_greedy_tokens_are_those_of_the_reference_kernels(platform):
    from inferplane import LLM
    from inferplane.params import SamplingParams

    params = SamplingParams(temperature=0.0, max_tokens=4)
    given = {"device": "triton-interpreter", "dtype": "float32", "page_size": 16, "num_pages": 32}
    ops = "norm.rms", "norm.add_rms", "activation.gated", "embedding", "attention", "sample"
    pins = [f"{op}=reference.{op}" for op in ops]
    reference = (*pins, "attention.input!=triton.attention_input")
    answers = []
    for kernels in ((), reference):
        with LLM("tiny-arithmetic", kernel=kernels, **given) as llm:
            answers.append([o.outputs[0].token_ids for o in llm.generate(PROMPTS, params)])
    assert answers[0] == answers[1]


def tokens(kernels: tuple[str, ...], quantization: str) -> list[list[int]]:
    from inferplane import LLM
    from inferplane.params import SamplingParams

    params = SamplingParams(temperature=0.0, max_tokens=3)
    given = {"device": "triton-interpreter", "dtype": "float32", "page_size": 16, "num_pages": 32}
    with LLM("tiny-arithmetic", kernel=kernels, quantization=quantization, **given) as llm:
        names = {c.names for c in llm.plan.resolution.choices.values() if c.request.op == "linear"}
        assert ("triton.linear" in names) == (not kernels)
        return [o.outputs[0].token_ids for o in llm.generate(PROMPTS, params)]


@pytest.mark.nightly
def test_quantized_layers_give_the_tokens_of_the_reference(platform):
    assert tokens((), "int4") == tokens(("linear=reference.linear",), "int4")


def test_experts_give_the_tokens_of_the_reference(platform):
    from inferplane import LLM
    from inferplane.params import SamplingParams

    params = SamplingParams(temperature=0.0, max_tokens=2)
    given = {"device": "triton-interpreter", "dtype": "float32", "page_size": 16, "num_pages": 32}
    answers = []
    for pins in ((), ("moe.route=reference.moe.route", "moe.experts=reference.moe.experts")):
        with LLM("tiny-arithmetic-moe", kernel=pins, **given) as llm:
            chosen = {c.names for c in llm.plan.resolution.choices.values()}
            assert ("triton.moe_experts" in chosen) == (not pins)
            answers.append([o.outputs[0].token_ids for o in llm.generate(PROMPTS, params)])
    assert answers[0] == answers[1]
