"""What `inferplane tune` would measure: calls that run, and files that the kernels would read."""

from __future__ import annotations

import json

import pytest
import torch
from batches import request as attention_request
from inferplane_triton import tunables, tuned_files
from inferplane_triton.plugin import inferplane_attention, inferplane_ops
from interpreter_platform import PROPS

from inferplane.cli.measuring import Measured, Subject, load, write
from inferplane.spec import ActivationRequest, NormRequest, SampleRequest

NORM = NormRequest(device=PROPS, size=32, dtype="fp32", eps=1e-6)
REQUESTS = {
    "norm.rms": NORM,
    "norm.add_rms": NormRequest(op="norm.add_rms", device=PROPS, size=32, dtype="fp32", eps=1e-6),
    "activation.gated": ActivationRequest(device=PROPS, size=64, dtype="fp32"),
    "sample": SampleRequest(device=PROPS, vocab=100, extra=frozenset({"random", "top_k", "top_p"})),
    "attention": attention_request(device=PROPS, sinks=True),
}
OFFERS = {c.op: c for c in (*inferplane_ops(PROPS), *inferplane_attention(PROPS)) if c.tunable}


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


def test_every_tunable_kernel_is_tested_here():
    assert OFFERS.keys() == REQUESTS.keys()


@pytest.mark.parametrize("op", REQUESTS)
def test_the_default_and_a_neighbour_run_in_each_case(op):
    tunable, request = load(OFFERS[op]), REQUESTS[op]
    for case in tunable.cases(request):
        configurations = tunable.configurations(request, case)
        assert len(configurations) > 10
        assert len({tuple(sorted(c.items())) for c in configurations}) == len(configurations)
        for configuration in (configurations[0], configurations[-1]):
            tunable.call(request, case, configuration, torch.device("cpu"))()


def test_what_is_written_is_what_the_kernel_gets(tmp_path, monkeypatch):
    monkeypatch.setattr(tunables, "FOLDER", tmp_path)
    tunable = load(OFFERS["norm.rms"])
    subject = Subject(OFFERS["norm.rms"], tunable, NORM, "")
    best = tunable.configurations(NORM, "")[-1]
    write([Measured(subject, [(dict(best), 1.0)], [], None)], tunable.file(NORM), {})
    given = tuned_files.configured("norm.rms", NORM, "", {"rows": 1, "warps": 1}, tmp_path)
    assert given == best
    assert json.loads(tunable.file(NORM).read_text())["device"] == PROPS.name
