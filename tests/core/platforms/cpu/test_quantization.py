"""The CPU's linear kernel against the reference, over drawn shapes."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes import schemes

from inferplane.platforms.cpu import supports
from inferplane.platforms.cpu.native.build import details
from inferplane.platforms.cpu.quantization import DequantizedLinear, PackedLinear
from inferplane.reference.linear import Linear
from inferplane.spec import DeviceProps, LinearRequest, QuantScheme
from inferplane.spec.torch_types import torch_dtype
from inferplane.testing.conformance.tolerances import bound

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=5)

PROPS = DeviceProps(name="a", profile="a", memory_bytes=1, dtypes=frozenset({"fp32", "bf16"}))
# Outputs are about 1 in size: weights are divided by the square root of the inputs.
TOLERANCE = {"fp32": {"rtol": 1e-5, "atol": 1e-5}, "bf16": {"rtol": 1e-2, "atol": 2e-2}}


class Source:
    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, tied_to: str = "") -> None:
        self.tensors, self.tied_to = {"weight": weight, "bias": bias}, tied_to

    def read(self, name: str, part: str | None = None) -> torch.Tensor:
        return self.tensors[name]


def make(inputs: int, outputs: int, dtype: str, seed: int, tied_to: str = "") -> Source:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=generator) * inputs**-0.5
    bias = torch.randn(outputs, generator=generator)
    return Source(weight.to(torch_dtype(dtype)), bias.to(torch_dtype(dtype)), tied_to)


def request(inputs: int, outputs: int, dtype: str, bias: bool) -> LinearRequest:
    return LinearRequest(
        device=PROPS, in_features=inputs, out_features=outputs, dtype=dtype, bias=bias
    )


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    tokens=st.sampled_from([1, 2, 8, 33]),
    inputs=st.sampled_from([1, 16, 64, 130]),
    outputs=st.sampled_from([1, 16, 96, 301]),
    dtype=st.sampled_from(["fp32", "bf16"]),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_linear(tokens, inputs, outputs, dtype, bias, seed):
    asked, source = request(inputs, outputs, dtype, bias), make(inputs, outputs, dtype, seed)
    x = torch.randn(tokens, inputs, generator=torch.Generator().manual_seed(seed))
    x = x.to(torch_dtype(dtype))
    found, expected = (
        kernel(x, kernel.prepare(source)) for kernel in (PackedLinear(asked), Linear(asked))
    )
    torch.testing.assert_close(found, expected, **TOLERANCE[dtype])


@pytest.mark.parametrize("kernel", [PackedLinear, Linear])
def test_preparing_a_tied_weight_leaves_it_as_it_was(kernel):
    source = make(16, 24, "fp32", 1, tied_to="model.embed_tokens")
    before = source.tensors["weight"].clone()
    made = kernel(request(16, 24, "fp32", False))
    made(torch.ones(2, 16), made.prepare(source))
    assert torch.equal(source.tensors["weight"], before)


def test_the_reference_does_not_count_a_tied_weight():
    tied = Linear(request(16, 24, "fp32", False)).prepare(make(16, 24, "fp32", 1, "other"))
    assert tied.final_bytes == 0


def test_the_packed_copy_of_a_tied_weight_is_counted():
    tied = PackedLinear(request(16, 24, "fp32", False)).prepare(make(16, 24, "fp32", 1, "other"))
    assert tied.final_bytes == 16 * 24 * 4


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("scheme", schemes.SCHEMES, ids=lambda scheme: scheme.name)
def test_every_scheme_dequantized(scheme, dtype, compiled):
    props = DeviceProps(
        name="a",
        profile="a",
        memory_bytes=1,
        dtypes=frozenset({"bf16", "fp32"}),
        details=details() if compiled else (),
    )
    asked = LinearRequest(
        device=props,
        in_features=256,
        out_features=96,
        parts=(64, 32),
        dtype=dtype,
        bias=True,
        scheme=scheme,
    )
    assert supports.dequantized(asked).ok
    generator = torch.Generator().manual_seed(0)
    tensors = schemes.drawn(scheme, (64, 32), 256, 0)
    tensors["bias"] = torch.randn(96, generator=generator).to(torch_dtype(dtype))
    source = schemes.Source(tensors, (64, 32))
    x = torch.randn(9, 256, generator=generator).to(torch_dtype(dtype))
    kernel, reference = DequantizedLinear(asked), Linear(asked)
    found = kernel(x, kernel.prepare(source))
    exact = reference(x.double(), reference.prepare(source))
    assert found.dtype == x.dtype
    # weights and inputs are rounded once, which adds to what a linear layer may be off
    error = (found - exact).abs().max() / exact.abs().max()
    assert error <= 2 * bound("linear", dtype, 256)


def test_the_room_that_a_dequantized_weight_takes_is_told():
    asked = request(256, 64, "bf16", False)
    scheme = QuantScheme.named(weight="int4")
    asked = dataclasses.replace(asked, scheme=scheme)
    assert supports.dequantized_extra_bytes(asked) == 256 * 64 * 2 - 256 * 64 // 2


def test_what_dequantizing_refuses():
    asked = request(256, 64, "bf16", False)
    odd = dataclasses.replace(asked, scheme=QuantScheme.named(weight="int2"))
    assert "weight type is int2" in supports.dequantized(odd).reason
    assert "not quantized" in supports.dequantized(asked).reason
