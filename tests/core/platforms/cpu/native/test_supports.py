"""What the compiled kernels refuse, and the reasons that they give."""

import pytest

from inferplane.platforms.cpu.native import supports
from inferplane.spec import DeviceProps, ExpertsRequest, LinearRequest, QuantScheme

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=1)

MISSING = (("native_reason", "no C++ compiler"), ("native_missing", "avx512_vnni"))
W4 = QuantScheme.named(weight="int4", granularity="group", group=32)
W8A8 = QuantScheme.named(weight="int8", activation="int8")


def props(native: str) -> DeviceProps:
    return DeviceProps(
        name="a",
        profile="a",
        memory_bytes=1,
        dtypes=frozenset({"bf16"}),
        details=(("native", native), *MISSING),
    )


def request(native: str = "products", **changes: object) -> LinearRequest:
    asked = {"in_features": 64, "out_features": 96, "dtype": "bf16"} | changes
    return LinearRequest(device=props(native), **asked)  # type: ignore[arg-type]


def experts(native: str = "products", **changes: object) -> ExpertsRequest:
    asked = {"experts": 4, "top_k": 2, "hidden": 64, "intermediate": 32, "dtype": "bf16"} | changes
    return ExpertsRequest(device=props(native), **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (request(in_features=63), "63 inputs"),
        (request(in_features=66, sharding="row", shards=2), "33 inputs"),
        (request(dtype="fp32"), "fp32"),
        (request(native="vector"), "no avx512_vnni"),
        (request(native="no"), "no C++ compiler"),
        (request(scheme=W4), "int4-g32"),
    ],
)
def test_linear(asked, words):
    assert words in supports.linear(asked).reason


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (request(), "not quantized"),
        (request(scheme=W8A8), "int8-channel-a:int8-token are integers"),
        (request(scheme=W4, dtype="fp32"), "inputs are fp32"),
        (request(scheme=QuantScheme.named(weight="int4"), in_features=62), "62 inputs"),
        (request(scheme=QuantScheme.named(weight="int2")), "weight type is int2"),
        (request(scheme=QuantScheme.named(weight="int8", zero_point=True)), "zero points"),
        (
            request(
                scheme=QuantScheme.named(
                    weight="fp8_e4m3",
                    activation="fp8_e4m3",
                    activation_granularity="group",
                    activation_group=32,
                )
            ),
            "inputs share scales by 32, weights by output",
        ),
        (request(scheme=W4, native="vector"), "no avx512_vnni"),
    ],
)
def test_codes(asked, words):
    assert words in supports.codes(asked).reason


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (request(), "scheme is none"),
        (request(scheme=W4), "scheme is int4-g32"),
        (request(scheme=W8A8, native="no"), "no C++ compiler"),
    ],
)
def test_int8(asked, words):
    assert words in supports.int8(asked).reason


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (experts(activation="relu"), "activation is relu"),
        (experts(dtype="fp32"), "fp32"),
        (experts(intermediate=31), "31 inputs"),
        (experts(scheme=W4, dtype="fp32"), "inputs are fp32"),
        (experts(native="vector"), "no avx512_vnni"),
    ],
)
def test_experts(asked, words):
    assert words in supports.experts(asked).reason


def test_what_they_serve():
    assert supports.linear(request(in_features=66, sharding="column", shards=2)).ok
    assert supports.linear(request()).ok
    assert supports.codes(request(scheme=W4)).ok
    assert supports.int8(request(scheme=W8A8)).ok
    assert supports.int8(request(scheme=W8A8, dtype="fp32")).ok
    assert all(supports.experts(experts(scheme=s)).ok for s in (W4, W8A8))
