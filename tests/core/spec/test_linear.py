"""Linear kernels of the contract: plain, and with 8-bit weights and inputs."""

from __future__ import annotations

import pytest
import torch

from inferplane.reference.linear import Linear
from inferplane.spec import (
    DeviceProps,
    LinearRequest,
    QuantScheme,
    TorchLinear,
    TorchScaledLinear,
    WeightPart,
)

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=4)

# torch 2.11 multiplies 8-bit floats with one scale each on the CPU, and more on devices only
scales_of_rows = pytest.mark.skipif(
    torch.__version__.startswith("2.11."), reason="torch 2.11: no scales of rows on the CPU"
)
PROPS = DeviceProps(name="a", profile="a", memory_bytes=1, dtypes=frozenset({"fp32", "bf16"}))
INPUTS, ROWS, PARTS = 64, 48, (16, 32)


class Source:
    path, tied_to = "layer.linear", ""

    def __init__(self, **tensors: torch.Tensor) -> None:
        self.tensors = tensors

    def read(self, name: str) -> torch.Tensor:
        return self.tensors[name]

    def parts(self, name: str) -> list[WeightPart]:
        shapes = [(rows, INPUTS) for rows in PARTS]
        return [WeightPart(name="p", key="k", full_shape=s, offset=(0, 0), shape=s) for s in shapes]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def request(dtype: str = "bf16", bias: bool = False, scheme: QuantScheme | None = None):
    given = {"scheme": scheme} if scheme else {}
    return LinearRequest(
        device=PROPS, in_features=INPUTS, out_features=ROWS, dtype=dtype, bias=bias, **given
    )


@pytest.mark.parametrize("bias", [False, True])
def test_plain_is_the_reference(bias):
    source = Source(weight=normal(ROWS, INPUTS), bias=normal(ROWS, seed=1))
    x = normal(3, INPUTS, seed=2)
    asked = request("fp32", bias)
    made, reference = TorchLinear(asked), Linear(asked)
    packed = made.prepare(source)
    torch.testing.assert_close(made(x, packed), reference(x, reference.prepare(source)))
    assert packed.final_bytes == 4 * ROWS * (INPUTS + bias)


def test_a_tied_weight_is_shared_and_not_counted():
    source = Source(weight=normal(ROWS, INPUTS))
    source.tied_to = "embedding"
    packed = TorchLinear(request("fp32")).prepare(source)
    assert packed.data[0] is source.tensors["weight"]
    assert packed.final_bytes == 0


def fp8(granularity: str, by: str) -> QuantScheme:
    return QuantScheme(
        name="fp8",
        weight="fp8_e4m3",
        activation="fp8_e4m3",
        granularity=granularity,
        activation_granularity=by,
    )


@scales_of_rows
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("by", ["token", "tensor"])
@pytest.mark.parametrize("scales", ["one", "a part", "a row", "a row, two axes"])
def test_scaled_is_the_product_of_the_numbers_in_the_checkpoint(scales, by, bias):
    weight = normal(ROWS, INPUTS) * torch.linspace(0.1, 3, ROWS)[:, None]
    pieces = {"one": [ROWS], "a part": list(PARTS)}.get(scales, [1] * ROWS)
    tops = torch.stack([part.abs().max() for part in weight.split(pieces)])
    scale = tops / torch.finfo(torch.float8_e4m3fn).max
    by_row = scale.repeat_interleave(torch.tensor(pieces))[:, None]
    stored = (weight / by_row).to(torch.float8_e4m3fn)
    x, added = normal(5, INPUTS, seed=1).bfloat16(), normal(ROWS, seed=2).bfloat16()
    granularity = "tensor" if scales in ("one", "a part") else "channel"
    made = TorchScaledLinear(request(bias=bias, scheme=fp8(granularity, by)))
    given = scale[:, None] if scales == "a row, two axes" else scale
    packed = made.prepare(Source(weight=stored, scale=given, bias=added))
    expected = x.float() @ (stored.float() * by_row).t() + (added if bias else 0)
    error = (made(x, packed).float() - expected).abs().max() / expected.abs().max()
    assert error < 0.04  # inputs have 4 bits of precision


@scales_of_rows
def test_a_token_does_not_change_the_scale_of_another():
    made = TorchScaledLinear(request(scheme=fp8("channel", "token")))
    weight = normal(ROWS, INPUTS).to(torch.float8_e4m3fn)
    packed = made.prepare(Source(weight=weight, scale=torch.ones(ROWS)))
    x = normal(2, INPUTS, seed=1).bfloat16()
    alone = made(x[:1], packed)
    x[1] *= 1000
    assert torch.equal(made(x, packed)[:1], alone)


def test_scales_that_fit_neither_rows_nor_parts_are_refused():
    weight = normal(ROWS, INPUTS).to(torch.float8_e4m3fn)
    made = TorchScaledLinear(request(scheme=fp8("tensor", "token")))
    with pytest.raises(ValueError, match=r"layer.linear: 3 scales for 48 rows in 2 parts"):
        made.prepare(Source(weight=weight, scale=torch.ones(3)))
