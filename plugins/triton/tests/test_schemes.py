"""Which quantization schemes are served on which devices, and how (level V0)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from inferplane_triton import schemes

from inferplane.spec import DeviceProps, GiB, QuantScheme

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=5)

OLD = DeviceProps(
    name="an old device",
    profile="a",
    memory_bytes=GiB,
    dtypes=frozenset({"fp32", "bf16", "fp16"}),
    capabilities=frozenset({"triton"}),
)
FP8 = replace(
    OLD, name="a device", dtypes=OLD.dtypes | {"int8"}, capabilities={"triton", "fp8_e4m3_gemm"}
)
FNUZ = replace(FP8, capabilities={"triton", "fp8_e4m3fnuz_gemm"})
FP4 = replace(FP8, capabilities=FP8.capabilities | {"fp4_block_gemm"})


def group(weight: str, size: int, **more: Any) -> QuantScheme:
    return QuantScheme.named(weight=weight, granularity="group", group=size, **more)


_FP8 = {"weight": "fp8_e4m3", "activation": "fp8_e4m3"}
_GROUPS = {"activation_granularity": "group", "activation_group": 32, "activation_scale": "ue8m0"}
MXFP4 = group("fp4_e2m1", 32, scale="ue8m0")
MXFP8 = group("fp8_e4m3", 32, scale="ue8m0", activation="fp8_e4m3", **_GROUPS)
MXFP8_WEIGHT = group("fp8_e4m3", 32, scale="ue8m0")
NVFP4 = group("fp4_e2m1", 16, scale="fp8_e4m3", global_scale=True)
INT8 = QuantScheme.named(weight="int8", activation="int8")

REFUSED = [
    (QuantScheme.named(weight="fp8_e5m2"), 256, "weights are fp8_e5m2"),
    (group("int4", 128, scale="int8"), 256, "scales are int8"),
    (group("int4", 128), 192, "192 inputs, they must be a multiple of the group, 128"),
    (group("int4", 48), 96, "48 inputs share a scale, it has powers of two from 16"),
    (group("int4", 16, activation="int8"), 96, "it has powers of two from 32"),
    (QuantScheme.named(weight="int4"), 33, "two share a byte"),
    (QuantScheme.named(weight="uint8", zero_point=True, activation="int8"), 64, "meet int8 inputs"),
    (QuantScheme.named(weight="int8", activation="fp8_e4m3"), 64, "meet fp8_e4m3 inputs"),
    (
        group(
            "fp4_e2m1", 16, scale="fp8_e4m3", activation="fp4_e2m1",
            activation_granularity="group", activation_group=16,
        ),
        64,
        "inputs are fp4_e2m1, there are int8, fp8_e4m3",
    ),
    (
        group("int4", 32, reordered=True, activation="fp8_e4m3", **_GROUPS),
        64,
        "permuted and quantized by groups",
    ),
    (
        QuantScheme.named(granularity="block", block=(128, 100), **_FP8),
        256,
        "100 inputs share a scale",
    ),
    (QuantScheme.named(activation_scale="ue8m0", **_FP8), 64, "for groups of fp8_e4m3"),
]  # fmt: skip


@pytest.mark.parametrize(("scheme", "inputs", "reason"), REFUSED, ids=lambda x: str(x)[:24])
def test_a_refusal_says_what_was_asked(scheme, inputs, reason):
    assert reason in schemes.answer(scheme, inputs, FP4).reason


def test_inputs_are_quantized_only_where_the_device_multiplies_the_type():
    fp8 = QuantScheme.named(**_FP8)
    assert schemes.answer(fp8, 64, FP8).ok
    assert schemes.answer(fp8, 64, FNUZ).ok
    assert "neither fp8_e4m3_gemm nor" in schemes.answer(fp8, 64, OLD).reason
    assert "an old device does not multiply it" in schemes.answer(INT8, 64, OLD).reason


def test_weights_alone_need_nothing_of_the_device():
    for scheme in (QuantScheme.named(weight="fp8_e4m3"), MXFP4, group("nf4", 64)):
        assert schemes.answer(scheme, 64, OLD).ok


def test_the_devices_own_unit_is_used_for_shared_exponents_where_it_has_one():
    for scheme in (MXFP4, MXFP8):
        assert schemes.recipe(scheme, "bf16", 256, FP4).block_scaled
        assert schemes.recipe(scheme, "bf16", 2880, FP4).step(128, 2880) == 64
        assert not schemes.recipe(scheme, "bf16", 256, FP8).block_scaled
        assert not schemes.recipe(scheme, "fp32", 256, FP4).block_scaled
        assert not schemes.recipe(scheme, "bf16", 96, FP4).block_scaled
    assert not schemes.recipe(NVFP4, "bf16", 256, FP4).block_scaled


@pytest.mark.parametrize("scheme", [MXFP4, MXFP8_WEIGHT, NVFP4], ids=lambda scheme: scheme.name)
def test_scales_go_into_weights_where_that_is_exact_and_steps_take_several_groups(scheme):
    for dtype in ("bf16", "fp32"):
        asked = schemes.recipe(scheme, dtype, 512, FP8)
        assert asked.in_weight
        assert asked.step(128, 512) == 128
    asked = schemes.recipe(scheme, "fp16", 512, FP8)  # 2**e may leave its range
    assert not asked.in_weight
    assert asked.step(128, 512) == scheme.group


@pytest.mark.parametrize(
    "scheme",
    [
        MXFP8,  # inputs have scales, too
        group("int4", 32, scale="bf16"),
        group("fp4_e2m1", 32, scale="bf16"),  # 2 and 8 bits
        group("nf4", 64, scale="fp32"),
        QuantScheme.named(weight="fp8_e4m3", granularity="block", block=(128, 128)),
        QuantScheme.named(weight="fp8_e4m3"),
    ],
    ids=lambda scheme: scheme.name,
)
def test_other_scales_are_applied_to_products(scheme):
    assert not schemes.recipe(scheme, "bf16", 512, FP8).in_weight


def test_the_devices_own_unit_is_taken_before_scales_go_into_weights():
    for scheme in (MXFP4, MXFP8_WEIGHT):
        assert not schemes.recipe(scheme, "bf16", 512, FP4).in_weight
    assert schemes.recipe(NVFP4, "bf16", 512, FP4).in_weight


def test_scales_in_weights_leave_a_number_a_row():
    for scheme in (MXFP4, MXFP8_WEIGHT):
        assert schemes.extra_bytes(scheme, 64, 512, "bf16", FP8) == 4 * 64
        assert schemes.extra_bytes(scheme, 64, 512, "fp16", FP8) == 0
        assert schemes.extra_bytes(scheme, 64, 512, "bf16", FP4) == 0
    assert schemes.extra_bytes(NVFP4, 64, 512, "bf16", FP8) == 4 * 64 + 64 * 32


def test_steps_end_where_scales_do():
    block = QuantScheme.named(
        granularity="block", block=(128, 128), activation_granularity="group",
        activation_group=64, **_FP8,
    )  # fmt: skip
    assert schemes.recipe(block, "bf16", 512, FP8).step(256, 512) == 64
    assert schemes.recipe(group("int4", 32), "bf16", 512, FP8).step(128, 512) == 32
    assert schemes.recipe(INT8, "bf16", 512, FP8).step(128, 512) == 128


@pytest.mark.parametrize(
    ("fields", "given"),
    [
        ({}, "token"),
        ({"activation_granularity": "tensor"}, "static"),
        ({"dynamic": False, "activation_granularity": "tensor"}, "static"),
        ({"activation_granularity": "group", "activation_group": 128}, "group"),
    ],
)
def test_how_inputs_are_read(fields, given):
    assert schemes.recipe(QuantScheme.named(**_FP8, **fields), "bf16", 512, FP8).input == given
