"""The compiled linear kernels against the definition in fp64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.schemes import SCHEMES, Source, drawn

from inferplane.platforms.cpu.native import supports
from inferplane.platforms.cpu.native.build import PRODUCTS, cpu_flags, details
from inferplane.platforms.cpu.native.linear import NativeLinear
from inferplane.reference.linear import Linear
from inferplane.spec import UNQUANTIZED, DeviceProps, LinearRequest, QuantScheme
from inferplane.spec.quantized import dequantize
from inferplane.spec.torch_types import torch_dtype
from inferplane.testing.conformance.tolerances import bound

pytestmark = [
    pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=20),
    pytest.mark.skipif(not cpu_flags() >= PRODUCTS, reason="no instructions for products here"),
]

PROPS = DeviceProps(
    name="a",
    profile="a",
    memory_bytes=1,
    dtypes=frozenset({"bf16", "fp32"}),
    details=details(),
)


def request(
    inputs: int, parts: tuple[int, ...], scheme: QuantScheme, dtype: str, bias: bool
) -> LinearRequest:
    return LinearRequest(
        device=PROPS,
        in_features=inputs,
        out_features=sum(parts),
        parts=parts,
        dtype=dtype,
        bias=bias,
        scheme=scheme,
    )


def served(asked: LinearRequest) -> bool:
    return any(f(asked).ok for f in (supports.linear, supports.int8, supports.codes))


def inputs_for(scheme: QuantScheme, wanted: int) -> int:
    """The nearest number of inputs that the scheme can pack."""
    step = {"group": scheme.group, "block": 4}.get(scheme.granularity, 4)
    return max(step, wanted // step * step)


@pytest.mark.parametrize("scheme", [UNQUANTIZED, *SCHEMES], ids=lambda scheme: scheme.name)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    tokens=st.one_of(st.integers(1, 33), st.sampled_from([64, 131])),
    wanted=st.sampled_from([4, 36, 132, 300, 1024]),
    parts=st.sampled_from([(1,), (31,), (20, 12), (33, 64), (96, 7, 198)]),
    dtype=st.sampled_from(["bf16", "fp32"]),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_products_are_those_of_the_definition(scheme, tokens, wanted, parts, dtype, bias, seed):
    inputs = inputs_for(scheme, wanted)
    asked = request(inputs, parts, scheme, dtype, bias)
    if not served(asked):
        return
    generator = torch.Generator().manual_seed(seed)
    tensors, kind = drawn(scheme, parts, inputs, seed), torch_dtype(dtype)
    if bias:
        tensors["bias"] = torch.randn(sum(parts), generator=generator).to(kind)
    x = torch.randn(tokens, inputs, generator=generator).to(kind)
    kernel, reference = NativeLinear(asked), Linear(asked)
    found = kernel(x, kernel.prepare(Source(tensors, parts)))
    assert found.dtype == kind
    wide = {name: t.double() if t.is_floating_point() else t for name, t in tensors.items()}
    source = Source(tensors if scheme.quantized else wide, parts)
    exact = reference(x.double(), reference.prepare(source))
    allowed = bound("linear", dtype, inputs) * exact.abs().max()
    if scheme.weight == "nf4":  # its values are rounded to bf16: each product may be off by that
        allowed += 2**-9 * (x.double().abs() @ dequantize(scheme, tensors).double().abs().T).max()
    assert (found - exact).abs().max() <= allowed


def test_every_scheme_is_served_in_bf16_but_one():
    refused = [s.name for s in SCHEMES if not served(request(1024, (64,), s, "bf16", False))]
    assert refused == ["int8-g32-zero"]


@pytest.mark.parametrize("scheme", [UNQUANTIZED, *SCHEMES], ids=lambda scheme: scheme.name)
def test_a_row_does_not_depend_on_the_rows_beside_it(scheme):
    asked = request(256, (40, 30), scheme, "bf16", False)
    whole = scheme.dynamic and scheme.activation_granularity == "tensor"
    if not served(asked) or (scheme.activation and whole):
        return  # all rows share a scale
    kernel = NativeLinear(asked)
    packed = kernel.prepare(Source(drawn(scheme, (40, 30), 256, 1), (40, 30)))
    x = torch.randn(40, 256).bfloat16()
    together = kernel(x, packed)
    for first, last in ((0, 1), (1, 3), (3, 12), (12, 30), (0, 40)):
        assert torch.equal(kernel(x[first:last], packed), together[first:last])


@pytest.mark.parametrize("scheme", [UNQUANTIZED, *SCHEMES], ids=lambda scheme: scheme.name)
def test_nan_stays_in_its_row_and_is_not_lost(scheme):
    asked = request(128, (40,), scheme, "bf16", False)
    if not served(asked):
        return
    kernel = NativeLinear(asked)
    packed = kernel.prepare(Source(drawn(scheme, (40,), 128, 1), (40,)))
    x = torch.randn(3, 128).bfloat16()
    x[1, 5] = float("nan")
    found = kernel(x, packed).isnan()
    assert found[1].all()
    if not (scheme.activation and scheme.activation_granularity == "tensor" and scheme.dynamic):
        assert not found[0].any()
        assert not found[2].any()


def test_infinity_passes_through():
    weight = torch.eye(32, dtype=torch.bfloat16)
    x = torch.zeros(1, 32, dtype=torch.bfloat16)
    x[0, 3] = float("inf")
    kernel = NativeLinear(request(32, (32,), UNQUANTIZED, "bf16", False))
    found = kernel(x, kernel.prepare(Source({"weight": weight})))
    assert found[0, 3].isinf()
    assert found[0, 4].isnan()  # infinity times zero


def test_the_dense_weight_is_not_kept_and_the_packed_one_is_counted():
    weight = torch.randn(33, 64).bfloat16()
    kernel = NativeLinear(request(64, (33,), UNQUANTIZED, "bf16", False))
    packed = kernel.prepare(Source({"weight": weight}))
    assert packed.final_bytes == 64 * 64 * 2  # two panels of 32
    assert all(t.data_ptr() != weight.data_ptr() for t in packed.tensors.values())


def test_packed_codes_take_the_room_of_the_stored_ones():
    scheme = QuantScheme.named(weight="int4", granularity="group", group=64, scale="bf16")
    tensors = drawn(scheme, (128,), 256, 0)
    kernel = NativeLinear(request(256, (128,), scheme, "bf16", False))
    packed = kernel.prepare(Source(tensors, (128,)))
    stored = sum(tensor.nbytes for tensor in tensors.values())
    assert packed.final_bytes == stored + 64  # the table of values
