"""What `inferplane tune` would measure: calls that run, and files that the kernels would read."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from batches import latent
from batches import request as attention_request
from inferplane_triton import defaults, product_tunables, tunables, tuned_files
from inferplane_triton.plugin import (
    inferplane_attention,
    inferplane_moe,
    inferplane_ops,
    inferplane_quantization,
)
from interpreter_platform import PROPS
from quantized import group

from inferplane.cli.measuring import Measured, Subject, load, write
from inferplane.spec import (
    ActivationRequest,
    ExpertsRequest,
    LinearRequest,
    NormRequest,
    SampleRequest,
)

NORM = NormRequest(device=PROPS, size=32, dtype="fp32", eps=1e-6)
SCHEME = group("int4", 32)
REQUESTS = {
    "triton.norm_rms": NORM,
    "triton.norm_add_rms": replace(NORM, op="norm.add_rms"),
    "triton.activation": ActivationRequest(device=PROPS, size=64, dtype="fp32"),
    "triton.sample": SampleRequest(
        device=PROPS, vocab=100, extra=frozenset({"random", "top_k", "top_p"})
    ),
    "triton.attention": attention_request(device=PROPS, sinks=True),
    "triton.latent_attention": latent(device=PROPS, kv_scales=True),
    "triton.linear": LinearRequest(
        device=PROPS, in_features=64, out_features=32, dtype="fp32", bias=True, scheme=SCHEME
    ),
    "triton.moe_experts": ExpertsRequest(
        device=PROPS, experts=2, top_k=2, hidden=32, intermediate=32, dtype="fp32", scheme=SCHEME
    ),
}
HOOKS = inferplane_ops, inferplane_attention, inferplane_quantization, inferplane_moe
OFFERS = {c.name: c for hook in HOOKS for c in hook(PROPS) if c.tunable}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for name, size in {
        "_TOKENS": 3,
        "_DECODES": 2,
        "_CONTEXT": 24,
        "_PROMPT": 20,
        "_ROWS": 2,
    }.items():
        monkeypatch.setattr(tunables, name, size)
    monkeypatch.setattr(product_tunables, "_FEW", 2)
    monkeypatch.setattr(product_tunables, "_MANY", 5)
    monkeypatch.setattr(defaults, "FEW_PAIRS", 2)


def test_every_tunable_kernel_is_tested_here():
    assert OFFERS.keys() == REQUESTS.keys()


@pytest.mark.parametrize("name", REQUESTS)
def test_the_default_and_a_neighbour_run_in_each_case(name):
    tunable, request = load(OFFERS[name]), REQUESTS[name]
    for case in tunable.cases(request):
        configurations = tunable.configurations(request, case)
        assert len(configurations) > 10
        assert len({tuple(sorted(c.items())) for c in configurations}) == len(configurations)
        for configuration in (configurations[0], configurations[-1]):
            tunable.call(request, case, configuration, torch.device("cpu"))()


def test_what_is_written_is_what_the_kernel_gets(tmp_path, monkeypatch):
    monkeypatch.setattr(tunables, "FOLDER", tmp_path)
    tunable = load(OFFERS["triton.norm_rms"])
    subject = Subject(OFFERS["triton.norm_rms"], tunable, NORM, "")
    best = tunable.configurations(NORM, "")[-1]
    write([Measured(subject, [(dict(best), 1.0)], [], None)], tunable.file(NORM), {})
    given = tuned_files.configured("norm.rms", NORM, "", {"rows": 1, "warps": 1}, tmp_path)
    assert given == best
    assert json.loads(tunable.file(NORM).read_text())["device"] == PROPS.name
