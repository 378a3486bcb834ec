"""The compiled routing and experts against the reference, over drawn requests."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.experts import drawn_experts, exact
from tests.fakes.schemes import SCHEMES, Source

from inferplane.platforms.cpu.native import supports
from inferplane.platforms.cpu.native.build import PRODUCTS, cpu_flags, details
from inferplane.platforms.cpu.native.moe import NativeExperts, route
from inferplane.reference import moe as reference
from inferplane.spec import UNQUANTIZED, DeviceProps, ExpertsRequest, QuantScheme, RoutingRequest
from inferplane.spec.torch_types import torch_dtype

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
TOLERANCE = {"bf16": 2**-7, "fp32": 2e-6}  # of the largest result
NAMES = [UNQUANTIZED, *SCHEMES]


def request(**changes: object) -> ExpertsRequest:
    asked = {"experts": 4, "top_k": 2, "hidden": 128, "intermediate": 256, "dtype": "bf16"}
    return ExpertsRequest(device=PROPS, **(asked | changes))  # type: ignore[arg-type]


def error(asked: ExpertsRequest, tokens: int, seed: int, chosen: torch.Tensor) -> float:
    """The largest, as a share of the largest right result."""
    tensors, x, weights = drawn_experts(asked, tokens, seed)
    right = exact(asked, tensors, x, weights, chosen)
    kernel = NativeExperts(asked)
    found = kernel(x, weights, chosen, kernel.prepare(Source(tensors)))
    assert found.dtype == x.dtype
    return float((found - right).abs().max() / right.abs().max().clamp(min=1e-30))


def choose(asked: ExpertsRequest, tokens: int, seed: int, gone: float = 0.0) -> torch.Tensor:
    """Distinct experts a token, int32 [T, E]; a share of them on other ranks."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randperm(asked.experts, generator=generator) for _ in range(tokens)]
    chosen = torch.stack(rows)[:, : asked.top_k].to(torch.int32)
    chosen[torch.rand(chosen.shape, generator=generator) < gone] = -1
    return chosen


@pytest.mark.parametrize("scheme", NAMES, ids=lambda scheme: scheme.name)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    tokens=st.sampled_from([1, 2, 13, 33, 70]),
    experts=st.sampled_from([(1, 1), (4, 2), (16, 4)]),
    sizes=st.sampled_from([(128, 256), (384, 128)]),
    kind=st.sampled_from(["silu", "gelu", "gelu_tanh", "swigluoai"]),
    limit=st.sampled_from([0.0, 0.7]),
    bias=st.booleans(),
    gone=st.sampled_from([0.0, 0.0, 0.3]),
    dtype=st.sampled_from(["bf16", "bf16", "fp32"]),
    seed=st.integers(0, 1000),
)
def test_experts(scheme, tokens, experts, sizes, kind, limit, bias, gone, dtype, seed):
    asked = request(
        experts=experts[0],
        top_k=experts[1],
        hidden=sizes[0],
        intermediate=sizes[1],
        activation=kind,
        limit=limit,
        bias=bias,
        dtype=dtype,
        scheme=scheme,
    )
    if not supports.experts(asked).ok:
        return
    most = TOLERANCE[dtype]
    if scheme.activation:  # a last digit of what lies between may be another code
        most = max(most, 2**-9 if scheme.activation not in ("int4", "fp4_e2m1") else 2**-5)
    if scheme.weight == "nf4":
        most *= 2
    assert error(asked, tokens, seed, choose(asked, tokens, seed, gone)) <= most


@pytest.mark.parametrize("tokens", [1, 20])
@pytest.mark.parametrize("size", [2, 30, 34])
def test_sizes_that_are_no_multiples_of_vectors_or_panels(size, tokens):
    asked = request(hidden=size, intermediate=size + 2, bias=True)
    assert error(asked, tokens, 0, choose(asked, tokens, 0)) <= TOLERANCE["bf16"]


def test_all_tokens_may_choose_one_expert():
    asked = request(experts=8, top_k=1)
    chosen = torch.full((40, 1), 5, dtype=torch.int32)
    assert error(asked, 40, 1, chosen) <= TOLERANCE["bf16"]


def test_experts_of_other_ranks_add_nothing():
    asked = request()
    tensors, x, weights = drawn_experts(asked, 3, 0)
    kernel = NativeExperts(asked)
    nobody = torch.full((3, 2), -1, dtype=torch.int32)
    assert not kernel(x, weights, nobody, kernel.prepare(Source(tensors))).any()


def test_one_copy_of_the_weights_is_kept():
    asked = request(scheme=QuantScheme.named(weight="int4", granularity="group", group=128))
    tensors, _, _ = drawn_experts(asked, 1, 0)
    packed = NativeExperts(asked).prepare(Source(tensors))
    stored = sum(tensor.nbytes for tensor in tensors.values())
    assert stored <= packed.final_bytes <= stored + 128  # two tables of values
    assert packed.peak_bytes < 2 * stored


@st.composite
def routings(draw: st.DrawFn) -> RoutingRequest:
    experts = draw(st.sampled_from([4, 16, 24, 160]))
    groups = draw(st.sampled_from([0, 0, 2, 4]))
    top_groups = draw(st.integers(1, groups)) if groups else 0
    most = experts // groups * top_groups if groups else experts
    return RoutingRequest(
        device=PROPS,
        experts=experts,
        top_k=draw(st.integers(1, min(8, most))),
        dtype=draw(st.sampled_from(["bf16", "fp32"])),
        scoring=draw(st.sampled_from(["softmax", "sigmoid"])),
        renormalize=draw(st.booleans()),
        bias=draw(st.booleans()),
        groups=groups if experts // max(groups, 1) > 1 else 0,
        top_groups=top_groups,
        group_score=draw(st.sampled_from(["max", "top2"])),
        scaling=draw(st.sampled_from([1.0, 2.5])),
        shared=draw(st.sampled_from([0, 2])),
    )


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    asked=routings(),
    tokens=st.sampled_from([1, 7, 300]),
    ties=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_routing(asked, tokens, ties, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(tokens, asked.experts, generator=generator)
    logits = (logits.round() if ties else logits).to(torch_dtype(asked.dtype))
    bias = torch.randn(asked.experts, generator=generator) / 4 if asked.bias else None
    weights, experts = route(asked)(logits, bias)
    right, chosen = reference.route(asked)(logits, bias)
    torch.testing.assert_close(weights, right, rtol=1e-5, atol=1e-6)
    same = experts == chosen
    if not same.all():  # two scores within a last digit of each other
        scores = logits.float().softmax(-1) if asked.scoring == "softmax" else logits.sigmoid()
        choice = (scores if bias is None else scores + bias).float()
        row = (~same).any(-1)
        found, expected = (choice[row].gather(1, e[row].long()) for e in (experts, chosen))
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def test_routing_of_nan_chooses_experts_that_exist():
    asked = RoutingRequest(device=PROPS, experts=4, top_k=3, dtype="fp32")
    weights, experts = route(asked)(torch.full((2, 4), float("nan")))
    assert weights.isnan().all()
    assert ((experts >= 0) & (experts < 4)).all()
