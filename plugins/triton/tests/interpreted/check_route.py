"""Routing: the reference's experts and weights, ties, groups, and logits that are not numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from inferplane_triton import supports
from inferplane_triton.route import route
from interpreter_platform import PROPS

from inferplane.reference.moe import route as reference
from inferplane.spec import RoutingRequest
from inferplane.spec.torch_types import torch_dtype

GROUPS = {"experts": 24, "top_k": 4, "groups": 6, "top_groups": 2}
CASES: dict[str, dict[str, Any]] = {
    "mixtral": {"experts": 8, "top_k": 2},
    "qwen3": {"experts": 128, "top_k": 8, "renormalize": False},
    "one": {"experts": 5, "top_k": 1},
    "all": {"experts": 6, "top_k": 6},
    "sigmoid": {"experts": 16, "top_k": 3, "scoring": "sigmoid"},
    "biased": {"experts": 16, "top_k": 3, "scoring": "sigmoid", "bias": True, "scaling": 2.5},
    "biased-softmax": {"experts": 12, "top_k": 4, "bias": True},
    "group-max": {"group_score": "max", "renormalize": False, "scaling": 16.0, **GROUPS},
    "group-top2": {"scoring": "sigmoid", "bias": True, "shared": 1, **GROUPS},
    "group-of-five": {
        "scoring": "sigmoid",
        "bias": True,
        "experts": 40,
        "top_k": 4,
        "groups": 8,
        "top_groups": 4,
    },
    "group-of-all": {"experts": 8, "top_k": 3, "groups": 2, "top_groups": 2},
    "shared": {"experts": 10, "top_k": 3, "shared": 2},
}


def both(ties: bool = False, dtype: str = "fp32", tokens: int = 9, **fields: Any) -> Any:
    r = RoutingRequest(device=PROPS, dtype=dtype, **fields)
    assert supports.route(r).ok
    chance = torch.Generator().manual_seed(3)
    logits = torch.randn(tokens, r.experts, generator=chance) * 2
    logits = logits.round() if ties else logits
    bias = (torch.randn(r.experts, generator=chance) / 4,) if r.bias else ()
    logits = logits.to(torch_dtype(dtype))
    return route(r)(logits, *bias), reference(r)(logits, *bias)


APART = [(name, False) for name in CASES]
TIED = [(name, True) for name, fields in CASES.items() if not fields.get("bias")]


@pytest.mark.parametrize(("name", "ties"), APART + TIED)
def test_the_references_experts_and_weights(name, ties):
    (weights, experts), (right, best) = both(ties, **CASES[name])
    assert experts.tolist() == best.tolist()
    assert (weights.dtype, experts.dtype) == (torch.float32, torch.int32)
    assert torch.allclose(weights, right, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_half_precision_logits(dtype):
    (weights, experts), (right, best) = both(dtype=dtype, **CASES["group-top2"])
    assert experts.tolist() == best.tolist()
    assert torch.allclose(weights, right, rtol=2e-6, atol=1e-7)


def test_no_tokens():
    (weights, experts), _ = both(tokens=0, **CASES["shared"])
    assert weights.shape == experts.shape == (0, 5)


def test_logits_that_are_not_numbers_still_name_experts():
    r = RoutingRequest(device=PROPS, dtype="fp32", experts=10, top_k=3)
    _, experts = route(r)(torch.full((2, 10), float("nan")))
    assert bool(((experts >= 0) & (experts < 10)).all())
