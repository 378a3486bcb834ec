"""Schemes as data."""

import pytest

from inferplane.spec import UNQUANTIZED, QuantScheme

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=1)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"weight": "int4", "granularity": "group", "group": 128}, "int4-g128"),
        ({"weight": "fp8_e4m3", "granularity": "block", "block": (128, 128)}, "fp8_e4m3-b128x128"),
        (
            {"weight": "int8", "activation": "int8", "dynamic": False},
            "int8-channel-a:int8-token-static",
        ),
        (
            {"weight": "fp4_e2m1", "granularity": "group", "group": 32, "scale": "ue8m0"},
            "fp4_e2m1-g32-sue8m0",
        ),
    ],
)
def test_the_name_says_what_it_is(fields, name):
    scheme = QuantScheme.named(**fields)
    assert scheme.name == name
    assert scheme.quantized


def test_every_other_meaning_is_a_feature():
    scheme = QuantScheme.named(
        weight="uint4",
        zero_point=True,
        reordered=True,
        global_scale=True,
        activation="int8",
        dynamic=False,
    )
    assert set(scheme.semantics()) == {
        "quantized",
        "zero_point",
        "reordered",
        "global_scale",
        "quantized_activation",
        "static_activation",
    }
    assert not set(UNQUANTIZED.semantics())


def test_four_bit_weights_lie_two_a_byte():
    assert (QuantScheme.named(weight="nf4").packed, QuantScheme.named(weight="nf4").storage) == (
        2,
        "uint8",
    )
    assert QuantScheme.named(weight="int8").storage == "int8"
    assert QuantScheme.named(weight="int8", scale="ue8m0").scale_storage == "uint8"
