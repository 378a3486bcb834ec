"""Inputs quantized at run time: the contract's scales and numbers, alone and behind an RMS norm."""

from __future__ import annotations

import pytest
import torch
from inferplane_triton.quantize import quantize
from inferplane_triton.schemes import recipe
from quantized import EIGHT_BITS, by, group

from inferplane.reference.norm import rms_norm
from inferplane.spec import NormRequest, QuantScheme
from inferplane.spec.quantized import as_quantized, input_scales

INT8 = by("int8", "channel", activation="int8")
FP8 = by("fp8_e4m3", "channel", activation="fp8_e4m3")
_GROUPS = {"activation": "fp8_e4m3", "activation_granularity": "group"}
FP8_GROUPS = by("fp8_e4m3", "channel", activation_group=32, **_GROUPS)
MX = group("fp8_e4m3", 32, "ue8m0", activation_group=32, activation_scale="ue8m0", **_GROUPS)
SCHEMES = (INT8, FP8, FP8_GROUPS, MX)


@pytest.mark.parametrize("size", [64, 96, 1])
@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.name)
def test_numbers_and_scales_are_the_contracts(mended, scheme, size):
    if size % 32 and scheme in (FP8_GROUPS, MX):
        size = 80  # the last group is not full
    x = torch.randn(5, size) * torch.tensor([1e-30, 1e-3, 1.0, 100.0, 0.0])[:, None]
    q, scale = quantize(x, recipe(scheme, "fp32", size, EIGHT_BITS))
    right = input_scales(scheme, x)
    found = torch.exp2(scale.float() - 127) if scheme is MX else scale
    assert torch.allclose(found, right, rtol=1e-6, atol=0)
    step = 1 / 127 if scheme is INT8 else 1 / 16
    gap = (_meant(scheme, q, scale) - as_quantized(scheme, x)).abs()
    assert bool((gap <= 1e-6 * x.abs() + step * 1e-6).all())


def _meant(scheme: QuantScheme, q: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    factor = torch.exp2(scale.float() - 127) if scale.dtype == torch.uint8 else scale
    each = q.shape[1] if factor.shape[1] == 1 else scheme.activation_group
    return q.float() * factor.repeat_interleave(each, 1)[:, : q.shape[1]]


def test_halves_of_int8_go_to_the_even_neighbour():
    x = torch.tensor([[127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 3.5]])
    q, scale = quantize(x, recipe(INT8, "fp32", 8, EIGHT_BITS))
    assert scale.item() == 1.0
    assert q.tolist() == [[127, 0, 2, 2, 0, -2, -2, 4]]


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("scheme", [INT8, FP8_GROUPS], ids=lambda s: s.name)
def test_behind_a_norm_it_is_the_norm_and_then_the_same(mended, scheme, offset):
    x, weight = torch.randn(3, 96).half(), torch.randn(96).half()
    asked = recipe(scheme, "fp16", 96, EIGHT_BITS)
    request = NormRequest(device=EIGHT_BITS, size=96, dtype="fp16", eps=1e-6, weight_offset=offset)
    right = quantize(rms_norm(request)(x, weight), asked)
    found = quantize(x, asked, (weight, 1e-6, offset))
    gap = (_meant(scheme, *found) - _meant(scheme, *right)).abs()
    step = right[1].max() * (1 if scheme is INT8 else 32)
    assert torch.allclose(found[1], right[1], rtol=2e-3)
    assert float(gap.max()) <= float(step) * 1.01
    assert float((gap > 0).float().mean()) < 0.1  # roundings of the norm differ rarely
