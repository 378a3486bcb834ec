"""What is refused, and why; what each architecture has (V0)."""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace

import pytest
from inferplane_rocm import libraries, supports
from inferplane_rocm.profiles import ARCHITECTURES, architecture, make_props, profile_of, profiles
from tests.fakes.paged import ask

from inferplane.spec import CollectiveRequest, GraphRequest, LinearRequest, NormRequest, QuantScheme

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=2)

FP8 = QuantScheme(name="fp8", weight="fp8_e4m3", activation="fp8_e4m3")


def props(gfx="gfx942", aiter="0.1.21"):
    return make_props(
        name="a", profile="a", memory_bytes=1, gfx=gfx, cores=1, details={"aiter": aiter}
    )


def linear(gfx="gfx942", scheme=FP8, **changes):
    fields = {"in_features": 256, "out_features": 512, "dtype": "bf16"} | changes
    return LinearRequest(device=props(gfx), scheme=scheme, **fields)


def test_only_some_architectures_have_the_ocp_encoding():
    ocp = {gfx for gfx in ARCHITECTURES if "fp8_e4m3_gemm" in props(gfx).capabilities}
    fnuz = {gfx for gfx in ARCHITECTURES if architecture(gfx).fp8 == "fp8_e4m3fnuz"}
    assert (ocp, fnuz) == ({"gfx950", "gfx1200", "gfx1201"}, {"gfx942"})


@pytest.mark.parametrize("gfx", ["gfx90a", "gfx1101", "gfx1151", "gfx1200"])
def test_parts_outside_data_centres_have_triton_and_bf16(gfx):
    assert {"triton", "bf16"} <= props(gfx).capabilities


def test_an_architecture_that_is_not_known_has_what_all_have():
    unknown = props("gfx9999")
    assert unknown.dtypes == {"fp32", "fp16"}
    assert "triton" not in unknown.capabilities


def installed(monkeypatch, **versions):
    def version(name):
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(libraries, "version", version)
    return replace(profiles()[0], details=profiles()[0].details)


@pytest.mark.parametrize(
    ("versions", "reason"),
    [
        ({}, "amd-aiter is not installed: build it from source"),
        ({"aiter": "0.13.20"}, "'aiter' 0.13.20 is an unrelated library"),
        ({"aiter": "0.13.20", "amd-aiter": "0.1.21"}, "hides amd-aiter 0.1.21"),
        ({"amd-aiter": "0.1.9"}, "amd-aiter is 0.1.9; calls were written for 0.1.20"),
        ({"amd-aiter": "0.2.0"}, "amd-aiter is 0.2.0"),
    ],
)
def test_aiter_is_refused_with_the_reason(versions, reason, monkeypatch):
    device = installed(monkeypatch, **versions)
    for answer, request in (
        (supports.aiter_unified, ask(device)),
        (supports.aiter_prefill, ask(device, head_dim=128)),
        (supports.aiter_norm, NormRequest(device=device, size=64, dtype="bf16", eps=1e-5)),
        (
            supports.aiter_linear,
            LinearRequest(
                device=device, in_features=256, out_features=64, dtype="bf16", scheme=FP8
            ),
        ),
    ):
        assert reason in answer(request).reason


@pytest.mark.parametrize("version", ["0.1.20", "0.1.21.post1", "0.1.20.dev46+ge404860", "0.1.30"])
def test_aiter_of_a_version_that_was_read_is_served(version, monkeypatch):
    device = installed(monkeypatch, **{"amd-aiter": version})
    assert supports.aiter_unified(ask(device))


@pytest.mark.parametrize("gfx", ["gfx90a", "gfx1100", "gfx1151", "gfx1201", ""])
def test_aiter_is_refused_where_it_has_no_kernels(gfx):
    assert "for gfx942 and gfx950" in supports.aiter_unified(ask(props(gfx))).reason


@pytest.mark.parametrize(
    ("answer", "changes", "reason"),
    [
        (supports.aiter_unified, {"head_dim": 96}, "head size is 96"),
        (supports.aiter_unified, {"page_size": 1}, "page size is 1"),
        (supports.aiter_unified, {"dtype": "fp32"}, "fp32 over fp32"),
        (supports.aiter_unified, {"kv_dtype": "fp8_e4m3"}, "bf16 over fp8_e4m3"),
        (supports.aiter_prefill, {}, "head size is 64, it has 128"),
        (supports.aiter_prefill, {"head_dim": 128, "page_size": 32}, "page size is 32"),
    ],
)
def test_attention_is_refused_with_the_reason(answer, changes, reason):
    assert reason in answer(ask(props(), **changes)).reason


@pytest.mark.parametrize("gfx", ["gfx942", "gfx950"])
def test_fp8_is_served_in_either_encoding(gfx):
    assert supports.hipblaslt_fp8(linear(gfx))
    assert supports.aiter_linear(linear(gfx))


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (linear("gfx90a"), "no 8-bit floating point"),
        (linear(scheme=replace(FP8, activation="")), "fp8_e4m3 by bf16"),
        (linear(scheme=replace(FP8, granularity="block")), "blocks"),
        (linear(scheme=replace(FP8, dynamic=False)), "it finds them"),
        (linear(dtype="fp32"), "results are fp32"),
        (linear(in_features=24), "24x512 a rank"),
        (linear(sharding="column", shards=64), "256x8 a rank"),
    ],
)
def test_fp8_is_refused_with_the_reason(request_, reason):
    assert reason in supports.hipblaslt_fp8(request_).reason


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (linear(scheme=replace(FP8, activation_granularity="tensor")), "scaled whole"),
        (linear(in_features=96), "from 192 on"),
        (linear(in_features=288), "multiples of 64"),
        (
            linear(scheme=replace(FP8, granularity="tensor"), parts=(256, 128, 128)),
            "3 parts with a scale each",
        ),
    ],
)
def test_aiters_product_is_refused_with_the_reason(request_, reason):
    assert reason in supports.aiter_linear(request_).reason


@pytest.mark.parametrize(
    ("size", "dtype", "reason"),
    [(64, "fp32", "fp32"), (16384, "bf16", "16,384"), (12, "bf16", "12")],
)
def test_norms_are_refused_with_the_reason(size, dtype, reason):
    request = NormRequest(device=props(), size=size, dtype=dtype, eps=1e-5)
    assert reason in supports.aiter_norm(request).reason


def test_collectives_and_graphs():
    assert supports.rccl(CollectiveRequest(device=props(), ranks=8, dtype="bf16"))
    assert "fp64" in supports.rccl(CollectiveRequest(device=props(), ranks=8, dtype="fp64")).reason
    assert supports.graph(GraphRequest(device=props()))


@pytest.mark.parametrize(
    ("name", "profile"),
    [("AMD Instinct MI300X", "mi300x"), ("AMD Instinct MI325X VF", "mi325x"), ("AMD", "gfx942")],
)
def test_a_device_belongs_to_the_profile_of_its_name(name, profile):
    assert profile_of(name, "gfx942") == profile
