"""What is refused, and why (V0)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from inferplane_cuda import libraries, supports
from inferplane_cuda.plugin import inferplane_platform
from tests.fakes.paged import ask

from inferplane.spec import GraphRequest, LinearRequest, QuantScheme

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=2)

PROFILES = {p.profile: p for p in inferplane_platform().profiles}
FP8 = QuantScheme(name="fp8", weight="fp8_e4m3", activation="fp8_e4m3")
ALL = {"flashinfer": "0.7.2.post1", "flash_attn": "2.8.4", "flash_attn_3": "3.0.0"}


def installed(profile: str, **versions: str):
    props = PROFILES[profile]
    kept = [(key, value) for key, value in props.details if key not in libraries.LIBRARIES]
    return replace(props, details=(*kept, *(versions or ALL).items()))


def linear(profile="h100", scheme=FP8, **changes):
    fields = {"in_features": 256, "out_features": 512, "dtype": "bf16"} | changes
    return LinearRequest(device=PROFILES[profile], scheme=scheme, **fields)


@pytest.mark.parametrize(
    "request_",
    [
        linear(),
        linear("l40s"),
        linear("b200", replace(FP8, granularity="tensor", activation_granularity="tensor")),
        linear(dtype="fp16", sharding="column", shards=8),
    ],
)
def test_fp8_is_served(request_):
    assert supports.scaled_linear(request_)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (linear("a100"), "no fp8_e4m3_gemm"),
        (linear(scheme=replace(FP8, weight="int8")), "has int8 weights"),
        (linear(scheme=replace(FP8, activation="")), "bf16 inputs"),
        (linear(scheme=replace(FP8, granularity="block", block=(128, 128))), "by block"),
        (linear(scheme=replace(FP8, dynamic=False)), "scales of inputs are stored"),
        (linear(sharding="row", shards=32), "8x512 a rank"),
        (linear(sharding="column", shards=64), "256x8 a rank"),
        (linear(dtype="fp32"), "results are fp32"),
        (linear(scheme=replace(FP8, reordered=True)), "permuted"),
    ],
)
def test_fp8_is_refused_with_the_reason(request_, reason):
    assert reason in supports.scaled_linear(request_).reason


@pytest.mark.parametrize(
    "answer", [supports.flashinfer, supports.flash_attention_2, supports.flash_attention_3]
)
def test_a_missing_library_says_how_to_get_it(answer):
    page = 256 if answer is supports.flash_attention_2 else 16
    request = ask(installed("h100", none=""), page_size=page)
    assert "is not installed" in answer(request).reason


@pytest.mark.parametrize(
    ("library", "version", "fits"),
    [
        ("flashinfer", "0.7.2.post1", True),
        ("flashinfer", "0.7.0+cu130", True),
        ("flashinfer", "0.6.1", False),
        ("flashinfer", "0.8.0", False),
        ("flash_attn", "2.8.4", True),
        ("flash_attn", "2.10.0", False),
        ("flash_attn_3", "3.0.0", True),
        ("flash_attn_3", "3.0.0b1", True),
        ("flash_attn_3", "four", False),
    ],
)
def test_a_version_that_was_not_read_is_refused(library, version, fits):
    assert (libraries.unsuitable(library, version) == "") is fits


@pytest.mark.parametrize(
    ("answer", "changes", "reason"),
    [
        (supports.flashinfer, {"head_dim": 96}, "head size is 96"),
        (supports.flashinfer, {"dtype": "fp32"}, "dtype is fp32"),
        (supports.flashinfer, {"kv_dtype": "fp8_e4m3"}, "KV dtype is fp8_e4m3"),
        (supports.flash_attention_2, {}, "page size is 16, it has multiples of 256"),
        (supports.flash_attention_2, {"head_dim": 512}, "head size is 512"),
        (supports.flash_attention_3, {"head_dim": 12}, "head size is 12"),
    ],
)
def test_attention_is_refused_with_the_reason(answer, changes, reason):
    assert reason in answer(ask(installed("h100"), **changes)).reason


@pytest.mark.parametrize("profile", ["a100", "l40s", "b200"])
def test_flash_attention_3_is_for_hopper(profile):
    assert "it is for 9.0" in supports.flash_attention_3(ask(installed(profile))).reason


def test_what_is_there_is_served():
    props = installed("h200")
    assert supports.flashinfer(ask(props, softcap=30.0, window=128))
    assert supports.flash_attention_3(ask(props))
    assert supports.flash_attention_2(ask(props, page_size=256))


def test_graphs_need_the_capability():
    props = PROFILES["h100"]
    assert supports.graph(GraphRequest(device=props))
    assert not supports.graph(GraphRequest(device=replace(props, capabilities=frozenset())))
