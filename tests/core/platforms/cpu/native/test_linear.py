"""The compiled linear kernel against sums in fp32."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inferplane.platforms.cpu import supports
from inferplane.platforms.cpu.native.build import cpu_flags
from inferplane.platforms.cpu.native.linear import NativeLinear
from inferplane.spec import DeviceProps, LinearRequest

pytestmark = [
    pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=5),
    pytest.mark.skipif("avx512_bf16" not in cpu_flags(), reason="no avx512_bf16 here"),
]


class Source:
    tied_to = ""

    def __init__(self, **tensors: torch.Tensor) -> None:
        self.tensors = tensors

    def read(self, name: str, part: str | None = None) -> torch.Tensor:
        return self.tensors[name]


def request(native: str = "bf16", **changes: object) -> LinearRequest:
    props = DeviceProps(
        name="a",
        profile="a",
        memory_bytes=1,
        dtypes=frozenset({"bf16"}),
        details=(("native", native), ("native_reason", "no C++ compiler")),
    )
    asked = {"in_features": 64, "out_features": 96, "dtype": "bf16"} | changes
    return LinearRequest(device=props, **asked)  # type: ignore[arg-type]


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    tokens=st.one_of(st.integers(1, 30), st.sampled_from([64, 131])),
    inputs=st.sampled_from([2, 16, 130, 1024]),
    outputs=st.sampled_from([1, 31, 32, 33, 96, 301]),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_products_are_those_of_fp32_rounded_once(tokens, inputs, outputs, bias, seed):
    generator = torch.Generator().manual_seed(seed)
    x, weight, b = (
        torch.randn(shape, generator=generator).bfloat16()
        for shape in ((tokens, inputs), (outputs, inputs), (outputs,))
    )
    kernel = NativeLinear(request(in_features=inputs, out_features=outputs, bias=bias))
    found = kernel(x, kernel.prepare(Source(weight=weight, bias=b)))
    exact = x.double() @ weight.double().T + (b.double() if bias else 0)
    # half a unit of bf16's 8 bits, and the fp32 sums' own error
    torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=1e-5 * inputs**0.5)


def test_nan_and_infinity_pass_through():
    weight = torch.eye(32, dtype=torch.bfloat16)
    x = torch.zeros(1, 32, dtype=torch.bfloat16)
    x[0, 3] = float("inf")
    kernel = NativeLinear(request(in_features=32, out_features=32))
    found = kernel(x, kernel.prepare(Source(weight=weight)))
    assert found[0, 3].isinf()
    assert found[0, 4].isnan()  # infinity times zero


def test_the_dense_weight_is_not_kept_and_the_packed_one_is_counted():
    weight = torch.randn(33, 64).bfloat16()
    packed = NativeLinear(request()).prepare(Source(weight=weight))
    assert packed.final_bytes == 64 * 64 * 2  # two panels of 32
    assert all(t.data_ptr() != weight.data_ptr() for t in packed.tensors.values())


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (request(in_features=63), "63 inputs"),
        (request(dtype="fp32"), "fp32"),
        (request(native="vector"), "no avx512_bf16"),
        (request(native="no"), "no C++ compiler"),
    ],
)
def test_what_it_refuses(asked, words):
    assert words in supports.native_linear(asked).reason
