"""The conformance kit over the plugin's kernels, in the interpreter (level V2i)."""

from __future__ import annotations

import inferplane_triton.plugin
import interpreter_platform
import pytest
from tests.fakes.plugins import installed

from inferplane.plugins.discovery import discover
from inferplane.reference import plugin as reference
from inferplane.testing.conformance.session import Choice, Session
from inferplane.testing.conformance.target import Target

# What is run at every commit; `make nightly` runs all, with drawn cases.
EVERY_COMMIT = {
    "norm.rms": ("heads-strided.bf16", "odd-size.fp32", "answers", "features"),
    "norm.add_rms": ("odd-size.fp16", "large-values.fp32"),
    "activation.gated": ("gelu-one-token.fp32", "silu-one-token.bf16", "limit"),
    "rotary": ("partial", "one-token.fp16"),
    "embedding": ("one-token.bf16",),
    "kv.write": (
        "padded.fp32",
        "other-kv-dtype.fp16",
        "only-padding.fp32",
        "/latent-kv-scales.fp32",
    ),
    "attention": (
        "/mixed-scattered.fp16",
        "/window-page-plus-one.fp32",
        "/sinks-softcap.fp32",
        "/not-causal.fp32",
        "/head-size-256.fp16",
        "/other-kv-dtype.fp32",
        "attention/triton.attention/kv-scales.fp32",
        "latent_attention/latent.fp16",
        "latent_attention/latent-no-rotary-part.fp32",
        "latent_attention/latent-kv-scales.bf16",
    ),
    "attention.input": ("/qk-norm.fp32", "/partial-rotary.fp16", "/interleaved.fp32"),
    "linear": (
        "/int4-g32-ends.fp32",
        "/fp8-token.fp32",
        "/uint4-g32-zero-ordered-parts-bias.bf16",
        "/mxfp4-weights-one-output.fp16",
        "/int8-token-ends.fp32",
        "/fp8-blocks-ends.bf16",
        "linear/answers",
        "linear/features",
    ),
    "linear.heads": ("/strided.fp32", "/wider.fp16"),
    "moe.route": ("/groups-bias.fp32", "/ties-in-groups.bf16", "/two-shared-scaled.fp32"),
    "moe.experts": (
        "/experts-of-others.fp32",
        "/gpt-oss.bf16",
        "/mxfp4-weights-gpt-oss.fp32",
        "/fp8-blocks.fp16",
        "experts/answers",
        "experts/features",
    ),
    "sample": ("/greedy-ties.fp32", "/greedy-logprobs.fp32", "/greedy-penalties.fp32"),
}


@pytest.fixture(scope="module")
def target():
    from mended import patch

    undo = patch()
    found = [
        installed("triton-interpreter", interpreter_platform),
        installed("triton", inferplane_triton.plugin),
        installed("reference", reference, "inferplane"),
    ]
    yield Target.open("triton-interpreter", plugins=discover(found=found))
    undo()


def run(target, op: str, draws: int, parts: tuple[str, ...] = ()) -> list:
    session = Session(target, Choice(op=op, draws=draws))
    ours = [case for case in session.cases if case.candidate.startswith("triton.")]
    chosen = [c for c in ours if not parts or any(part in c.id for part in parts)]
    return [session.run(case) for case in chosen]


def check(results: list) -> None:
    failed = {r.case.id: [f"{f.check}: {f.message}" for f in r.failures] for r in results}
    assert {name: texts for name, texts in failed.items() if texts} == {}
    assert any(result.status == "passed" for result in results)


@pytest.mark.parametrize("op", EVERY_COMMIT)
def test_some_cases_of_each_op_pass(target, op):
    results = run(target, op, 0, EVERY_COMMIT[op])
    assert len(results) >= len(EVERY_COMMIT[op])
    check(results)


@pytest.mark.nightly
@pytest.mark.parametrize("op", EVERY_COMMIT)
def test_all_cases_pass(target, op):
    check(run(target, op, 8))


def test_a_run_here_is_called_interpreted(target):
    assert {target.level(offer) for offer in target.offers("attention")} == {"V2i"}
