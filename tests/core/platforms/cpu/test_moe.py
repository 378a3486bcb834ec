"""Experts out of torch's calls against the definition, in every scheme."""

import pytest
import torch
from tests.fakes.experts import drawn_experts, exact
from tests.fakes.schemes import SCHEMES, Source

from inferplane.platforms.cpu import supports
from inferplane.platforms.cpu.moe import PackedExperts
from inferplane.spec import UNQUANTIZED, DeviceProps, ExpertsRequest

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=5)

PROPS = DeviceProps(name="a", profile="a", memory_bytes=1, dtypes=frozenset({"bf16", "fp32"}))
TOLERANCE = {"bf16": 2**-6, "fp32": 4e-6}  # of the largest result


def request(**changes: object) -> ExpertsRequest:
    asked = {"experts": 4, "top_k": 2, "hidden": 128, "intermediate": 256, "dtype": "bf16"}
    return ExpertsRequest(device=PROPS, **(asked | changes))  # type: ignore[arg-type]


def error(asked: ExpertsRequest, tokens: int, chosen: torch.Tensor) -> float:
    tensors, x, weights = drawn_experts(asked, tokens, 0)
    right = exact(asked, tensors, x, weights, chosen)
    kernel = PackedExperts(asked)
    found = kernel(x, weights, chosen, kernel.prepare(Source(tensors)))
    assert found.dtype == x.dtype
    return float((found - right).abs().max() / right.abs().max())


def choose(tokens: int, *, gone: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randperm(4, generator=generator)[:2] for _ in range(tokens)]
    chosen = torch.stack(rows).to(torch.int32)
    if gone:
        chosen[::2, 1] = -1
    return chosen


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("scheme", [UNQUANTIZED, *SCHEMES], ids=lambda scheme: scheme.name)
def test_every_scheme(scheme, dtype):
    asked = request(scheme=scheme, dtype=dtype, bias=True)
    assert supports.experts(asked).ok
    most = TOLERANCE[dtype]
    if scheme.activation:  # a last digit of what lies between may be another code
        most = max(most, 2**-9 if scheme.activation not in ("int4", "fp4_e2m1") else 2**-5)
    assert error(asked, 13, choose(13)) <= most


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("tokens", [1, 20])
@pytest.mark.parametrize(("kind", "limit"), [("gelu", 0.0), ("gelu_tanh", 1.0), ("swigluoai", 7.0)])
def test_activations_and_experts_of_other_ranks(kind, limit, tokens, dtype):
    asked = request(activation=kind, limit=limit, dtype=dtype)
    assert error(asked, tokens, choose(tokens, gone=True)) <= TOLERANCE[dtype]


def test_all_tokens_may_choose_one_expert():
    asked = request(top_k=1)
    assert error(asked, 20, torch.full((20, 1), 3, dtype=torch.int32)) <= TOLERANCE["bf16"]


def test_what_it_refuses():
    assert "activation is relu" in supports.experts(request(activation="relu")).reason


def test_what_dequantizing_takes_is_told():
    grown = supports.experts_extra_bytes(request(scheme=SCHEMES[0]))
    assert grown == 4 * 3 * 256 * 128 * (2 - 1)
    assert supports.experts_extra_bytes(request()) == 0
