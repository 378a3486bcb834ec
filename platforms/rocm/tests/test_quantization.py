"""8-bit linear kernels: the change of encoding, and AITER's calls (V2e)."""

from __future__ import annotations

import pytest
import torch
from inferplane_rocm.plugin import inferplane_platform
from inferplane_rocm.quantization import AiterLinear, FnuzLinear, scaled_linear, to_fnuz

from inferplane.spec import LinearRequest, QuantScheme, TorchScaledLinear

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=3)

PROFILES = {p.profile: p for p in inferplane_platform().profiles}
FP8 = QuantScheme(name="fp8", weight="fp8_e4m3", activation="fp8_e4m3")
INT8 = QuantScheme(name="int8", weight="int8", activation="int8")


class Source:
    path = "layer.linear"

    def __init__(self, **tensors: torch.Tensor) -> None:
        self.tensors = tensors

    def read(self, name: str) -> torch.Tensor:
        return self.tensors[name]


def test_every_number_keeps_its_value():
    bits = torch.arange(256, dtype=torch.uint8)
    weight = bits[bits & 0x7F != 0x7F].view(torch.float8_e4m3fn)
    scale = torch.tensor([0.5])
    converted, doubled = to_fnuz(weight, scale)
    assert converted.dtype == torch.float8_e4m3fnuz
    assert torch.equal(converted.float() * doubled, weight.float() * scale)


def test_a_weight_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        to_fnuz(torch.tensor([float("nan")]).to(torch.float8_e4m3fn), torch.ones(1))


@pytest.mark.parametrize(
    ("profile", "kind"), [("mi300x", FnuzLinear), ("mi355x", TorchScaledLinear)]
)
def test_the_encoding_is_the_devices(profile, kind):
    request = LinearRequest(
        device=PROFILES[profile], in_features=32, out_features=16, dtype="bf16", scheme=FP8
    )
    assert type(scaled_linear(request)) is kind


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("profile", "scheme"), [("mi300x", FP8), ("mi355x", FP8), ("mi300x", INT8)]
)
def test_aiters_product_is_that_of_the_numbers_in_the_checkpoint(profile, scheme, bias, aiter):
    generator = torch.Generator().manual_seed(0)
    rows, columns = 48, 192
    weight, x = (torch.randn(n, columns, generator=generator) for n in (rows, 5))
    scale = weight.abs().amax(1, keepdim=True) / (127 if scheme is INT8 else 448)
    stored = weight / scale
    kind = torch.int8 if scheme is INT8 else torch.float8_e4m3fn
    stored = (stored.round() if scheme is INT8 else stored).to(kind)
    added = torch.randn(rows, generator=generator).bfloat16()
    request = LinearRequest(
        device=PROFILES[profile],
        in_features=columns,
        out_features=rows,
        dtype="bf16",
        bias=bias,
        scheme=scheme,
    )
    made = AiterLinear(request)
    packed = made.prepare(Source(weight=stored, scale=scale, bias=added))
    expected = x @ (stored.float() * scale).t() + (added if bias else 0)
    found = made(x.t().contiguous().bfloat16().t(), packed).float()
    torch.testing.assert_close(found, expected, atol=1.5, rtol=0.05)
    assert packed.final_bytes == rows * columns + 4 * rows + (2 * rows if bias else 0)


def test_scales_that_fit_no_row_are_refused(aiter):
    request = LinearRequest(
        device=PROFILES["mi355x"], in_features=32, out_features=16, dtype="bf16", scheme=FP8
    )
    weight = torch.zeros(16, 32).to(torch.float8_e4m3fn)
    with pytest.raises(ValueError, match=r"layer\.linear: 3 scales for 16 rows"):
        AiterLinear(request).prepare(Source(weight=weight, scale=torch.ones(3)))
