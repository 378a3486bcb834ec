"""Round to nearest: what comes back is as near as the scheme allows."""

import pytest
import torch

import inferplane.formats.quantize as module
from inferplane.formats.online import FP8, INT8, MXFP8
from inferplane.formats.quantize import quantize
from inferplane.spec import QuantScheme
from inferplane.spec.quantized import dequantize

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=3)

INT4 = QuantScheme.named(weight="int4", granularity="group", group=32, scale="bf16")
BLOCKS = QuantScheme.named(weight="fp8_e4m3", granularity="block", block=(128, 128))
TENSOR = QuantScheme.named(weight="fp8_e4m3", granularity="tensor")
MXFP4 = QuantScheme.named(weight="fp4_e2m1", granularity="group", group=32, scale="ue8m0")
# half a step of the type, as a share of the largest number that shares the scale; fp8 keeps 3 bits
WORST = {INT8: 0.5 / 127, FP8: 2**-4, BLOCKS: 2**-4, TENSOR: 2**-4, INT4: 0.5 / 7 * 1.01}


def drawn(*shape) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scheme", WORST, ids=lambda s: s.name)
def test_no_weight_is_further_off_than_half_a_step(scheme):
    weight = drawn(300, 256)
    found = dequantize(scheme, quantize(scheme, weight))
    assert (found - weight).abs().max() <= WORST[scheme] * weight.abs().max()


@pytest.mark.parametrize("scheme", [MXFP8, MXFP4], ids=lambda s: s.name)
def test_a_group_with_one_number_of_the_type_is_exact(scheme):
    weight = torch.tensor([[1.0, 2.0, 3.0, 4.0, 6.0, -0.5, 0.0, -6.0] * 4, [8.0] * 32])
    assert torch.equal(dequantize(scheme, quantize(scheme, weight)), weight)


@pytest.mark.parametrize("scheme", [*WORST, MXFP8, MXFP4], ids=lambda s: s.name)
def test_experts_are_quantized_one_by_one(scheme):
    weight = drawn(2, 128, 128)
    weight[1] *= 10
    together = quantize(scheme, weight)
    for index in range(2):
        alone = quantize(scheme, weight[index])
        assert all(torch.equal(together[n][index], alone[n]) for n in alone)


@pytest.mark.parametrize("scheme", [*WORST, MXFP8], ids=lambda s: s.name)
def test_pieces_of_a_large_weight_fit_together(scheme, monkeypatch):
    weight = drawn(300, 128)
    whole = quantize(scheme, weight)
    monkeypatch.setattr(module, "_AT_ONCE", 128 * 128)
    pieces = quantize(scheme, weight)
    assert all(torch.equal(whole[name], pieces[name]) for name in whole)


def test_a_weight_of_zeros_stays_zero():
    assert not dequantize(INT4, quantize(INT4, torch.zeros(4, 32))).any()


ZEROS = QuantScheme.named(weight="uint4", granularity="group", group=32, zero_point=True)
NVFP4 = QuantScheme.named(
    weight="fp4_e2m1", granularity="group", group=16, scale="fp8_e4m3", global_scale=True
)
NF4 = QuantScheme.named(weight="nf4", granularity="group", group=64)


def test_a_zero_point_serves_numbers_on_one_side():
    weight = drawn(8, 64).abs() + 3
    found = dequantize(ZEROS, quantize(ZEROS, weight))
    assert (found - weight).abs().max() <= weight.max() / 15
    both = drawn(8, 64)
    both[:, 0] = 0.0
    assert not dequantize(ZEROS, quantize(ZEROS, both))[:, 0].any()


@pytest.mark.parametrize("scheme", [NVFP4, NF4], ids=lambda s: s.name)
def test_four_bits_of_other_kinds_are_near(scheme):
    weight = drawn(64, 128)
    found = dequantize(scheme, quantize(scheme, weight))
    assert (found - weight).square().mean() < 0.015 * weight.square().mean()


def test_an_nf4_code_is_the_nearest():
    weight = torch.tensor([[1.0, -1.0, 0.9, 0.3, *[0.0] * 60]])
    found = dequantize(NF4, quantize(NF4, weight))
    assert found[0, :4].tolist() == pytest.approx([1.0, -1.0, 1.0, 0.33791524171829224])


@pytest.mark.parametrize("fields", [{"reordered": True}, {"activation": "int8", "dynamic": False}])
def test_schemes_that_need_more_than_the_weight_are_refused(fields):
    scheme = QuantScheme.named(weight="int4", granularity="group", group=32, **fields)
    with pytest.raises(ValueError, match="cannot be quantized to int4-g32"):
        quantize(scheme, torch.zeros(4, 32))
