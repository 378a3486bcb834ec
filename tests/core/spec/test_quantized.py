"""Canonical quantized tensors: codes, scales, and what they mean."""

import pytest
import torch

from inferplane.spec import QuantScheme
from inferplane.spec.quantized import (
    NF4_VALUES,
    as_quantized,
    by_rows,
    dequantize,
    exponents,
    fp4_codes,
    input_scales,
    pack,
    rounded,
    shared_exponents,
    unpack,
    values_of_fp4,
)

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=3)


def int4(**fields) -> QuantScheme:
    return QuantScheme.named(weight="int4", granularity="group", group=2, **fields)


def test_even_inputs_lie_in_the_low_halves():
    codes = torch.tensor([[1, 2, 15, 0]], dtype=torch.uint8)
    assert pack(codes).tolist() == [[0x21, 0x0F]]
    assert torch.equal(unpack(pack(codes)), codes)


def test_int4_codes_are_values_plus_eight():
    codes = torch.tensor([[0, 8, 15, 9]], dtype=torch.uint8)
    scale = torch.tensor([[2.0, 10.0]])
    weight = dequantize(int4(), {"weight": pack(codes), "scale": scale})
    assert weight.tolist() == [[-16.0, 0.0, 70.0, 10.0]]


def test_a_zero_point_is_taken_off_before_the_scale():
    scheme = QuantScheme.named(weight="uint4", granularity="group", group=2, zero_point=True)
    tensors = {
        "weight": pack(torch.tensor([[3, 1, 15, 0]], dtype=torch.uint8)),
        "scale": torch.tensor([[2.0, 0.5]]),
        "zero": torch.tensor([[1, 15]], dtype=torch.uint8),
    }
    assert dequantize(scheme, tensors).tolist() == [[4.0, 0.0, 0.0, -7.5]]


def test_blocks_at_the_edge_are_smaller():
    scheme = QuantScheme.named(weight="int8", granularity="block", block=(2, 2))
    tensors = {
        "weight": torch.ones(3, 3, dtype=torch.int8),
        "scale": torch.tensor([[1, 2], [3, 4]]),
    }
    assert dequantize(scheme, tensors).tolist() == [[1, 1, 2], [1, 1, 2], [3, 3, 4]]


def test_a_scale_a_part_covers_its_rows():
    scheme = QuantScheme.named(weight="int8", granularity="tensor")
    tensors = {"weight": torch.ones(3, 2, dtype=torch.int8), "scale": torch.tensor([2.0, 5.0])}
    assert dequantize(scheme, tensors, (2, 1))[:, 0].tolist() == [2, 2, 5]
    with pytest.raises(ValueError, match="2 numbers for 3 rows"):
        dequantize(scheme, tensors, (3,))


def test_parts_of_equal_size_need_no_sizes():
    assert by_rows(torch.tensor([[1.0, 2.0]]), 4).tolist() == [[1, 1, 2, 2]]


def test_stored_inputs_return_to_their_places():
    scheme = int4(reordered=True)
    tensors = {
        "weight": pack(torch.tensor([[9, 10, 11, 12]], dtype=torch.uint8)),
        "scale": torch.ones(1, 2),
        "order": torch.tensor([2, 0, 3, 1], dtype=torch.int32),
    }
    assert dequantize(scheme, tensors).tolist() == [[2, 4, 1, 3]]


def test_two_levels_of_scales():
    scheme = QuantScheme.named(
        weight="fp4_e2m1", granularity="group", group=2, scale="fp8_e4m3", global_scale=True
    )
    tensors = {
        "weight": pack(torch.tensor([[7, 15, 1, 9]], dtype=torch.uint8)),
        "scale": torch.tensor([[2.0, 4.0]]).to(torch.float8_e4m3fn),
        "global_scale": torch.tensor([0.5]),
    }
    assert dequantize(scheme, tensors).tolist() == [[6.0, -6.0, 1.0, -1.0]]


def test_exponents_are_powers_of_two():
    assert exponents(torch.tensor([127, 130, 126], dtype=torch.uint8)).tolist() == [1, 8, 0.5]
    assert shared_exponents(torch.tensor([448.0, 449.0, 1.0]), "fp8_e4m3").tolist() == [
        127,
        127,
        119,
    ]


def test_nf4_codes_are_quantiles():
    scheme = QuantScheme.named(weight="nf4", granularity="group", group=2)
    tensors = {
        "weight": pack(torch.tensor([[0, 15]], dtype=torch.uint8)),
        "scale": torch.ones(1, 1),
    }
    assert dequantize(scheme, tensors).tolist() == [[NF4_VALUES[0], NF4_VALUES[15]]]


@pytest.mark.parametrize(
    ("number", "nearest"),
    [
        (0.25, 0.0),
        (0.26, 0.5),
        (0.75, 1.0),
        (1.25, 1.0),
        (1.75, 2.0),
        (2.5, 2.0),
        (3.5, 4.0),
        (5.0, 4.0),
        (5.1, 6.0),
        (100.0, 6.0),
        (-1.3, -1.5),
    ],
)
def test_fp4_rounds_to_the_nearest_and_ties_to_even(number, nearest):
    assert values_of_fp4(fp4_codes(torch.tensor([number]))).item() == nearest


def test_what_is_too_large_becomes_the_largest():
    assert rounded(torch.tensor([1000.0, -1000.0]), "fp8_e4m3").tolist() == [448, -448]
    assert rounded(torch.tensor([200.0, -200.0]), "int8").tolist() == [127, -127]


def scheme_of_inputs(**fields) -> QuantScheme:
    return QuantScheme.named(weight="int8", activation="int8", **fields)


def test_inputs_by_token_and_by_group():
    x = torch.tensor([[127.0, 1.0, 254.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert input_scales(scheme_of_inputs(), x)[:, 0].tolist() == pytest.approx([2.0, 0.0], abs=1e-9)
    by_group = scheme_of_inputs(activation_granularity="group", activation_group=2)
    assert input_scales(by_group, x)[0].tolist() == [1.0, 2.0]
    assert as_quantized(by_group, x)[0].tolist() == [127, 1, 254, 0]
    assert as_quantized(scheme_of_inputs(), x)[0].tolist() == [128, 0, 254, 0]


def test_static_inputs_use_the_largest_of_the_parts_scales():
    scheme = scheme_of_inputs(activation_granularity="tensor", dynamic=False)
    x = torch.tensor([[5.0, 1000.0]])
    assert as_quantized(scheme, x, torch.tensor([1.0, 2.0])).tolist() == [[4.0, 254.0]]


def test_inputs_stay_where_the_scheme_leaves_them():
    x = torch.tensor([[0.1234567]])
    assert torch.equal(as_quantized(int4(), x), x)


def test_groups_with_a_second_scale_are_what_the_tool_makes_of_them():
    """NVFP4: the numbers are of compressed-tensors 0.20, `fake_quantize` of the preset NVFP4."""
    scheme = QuantScheme.named(
        weight="fp4_e2m1",
        granularity="group",
        group=16,
        activation="fp4_e2m1",
        activation_granularity="group",
        activation_group=16,
        activation_scale="fp8_e4m3",
        dynamic=False,
    )
    large = [0.1, -0.7, 2.5, 3.3, -4.1, 0.02, 1.9, -0.4]
    small = [0.001, 0.002, -0.003, 0.0004]
    second = torch.tensor([8 / (6 * 448)])
    found = as_quantized(scheme, torch.tensor([large * 2 + small * 4]), second)
    third = 2 / 3
    expected = [0.0, -third, 4 * third, 4 * third, -4.0, 0.0, 2.0, -third / 2] * 2
    expected += [0.0010230655, 0.0020461311, -0.0030691966, 0.00051153277] * 4
    torch.testing.assert_close(found, torch.tensor([expected]))
    assert not as_quantized(scheme, torch.zeros(1, 32), second).any()
