"""Routing and experts against the reference."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from inferplane_sim import supports
from inferplane_sim.moe import Experts, route

from inferplane.formats.quantize import quantize
from inferplane.reference import moe as reference
from inferplane.spec import UNQUANTIZED, ExpertsRequest, Packed, QuantScheme, RoutingRequest

pytestmark = pytest.mark.ci(platforms=["sim"], suite="plugins", est_seconds=4)

ROUTINGS = {
    "softmax": {},
    "as they are": {"renormalize": False, "scaling": 2.5},
    "biased groups": {"scoring": "sigmoid", "bias": True, "groups": 4, "top_groups": 2},
    "best of groups": {"groups": 4, "top_groups": 2, "group_score": "max"},
    "shared": {"shared": 2},
}
SCHEMES = [
    UNQUANTIZED,
    QuantScheme.named(weight="int8", granularity="channel", activation="int8"),
    QuantScheme.named(weight="int4", granularity="group", group=32),
]


@pytest.mark.parametrize("fields", ROUTINGS.values(), ids=ROUTINGS)
def test_the_same_experts_with_the_same_weights(sim, values, fields):
    request = RoutingRequest(
        device=sim.boards[0].props, experts=16, top_k=4, dtype="fp32", **fields
    )
    logits = values(7, 16)
    logits[0] = 1.0  # ties
    bias = [values(16, seed=1)] if request.bias else []
    weights, experts = route(request)(logits.to("sim"), *(b.to("sim") for b in bias))
    right_weights, right_experts = reference.route(request)(logits, *bias)
    assert torch.equal(experts.cpu(), right_experts)
    torch.testing.assert_close(weights.cpu(), right_weights)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda s: s.name)
@pytest.mark.parametrize("bias", [False, True])
def test_experts_are_what_the_reference_says(sim, values, scheme, bias):
    request = ExpertsRequest(
        device=sim.boards[0].props,
        experts=4,
        top_k=2,
        hidden=64,
        intermediate=32,
        dtype="fp32",
        limit=1.0,
        bias=bias,
        scheme=scheme,
    )
    assert supports.experts(request).ok
    tensors = {}
    for name, weight in (("gate_up", values(4, 64, 64)), ("down", values(4, 64, 32, seed=1))):
        made = quantize(scheme, weight) if scheme.quantized else {"weight": weight}
        if bias:
            made["bias"] = values(4, weight.shape[1], seed=2)
        tensors |= {f"{name}.{key}": tensor for key, tensor in made.items()}
    x, weights = values(5, 64, seed=3), values(5, 2, seed=4).abs()
    experts = torch.tensor([[0, 1], [3, 0], [-1, 0], [-1, -1], [1, 3]], dtype=torch.int32)
    right = reference.Experts(request)(x, weights, experts, Packed(data=tensors, final_bytes=0))
    held = Packed(data={n: t.to("sim") for n, t in tensors.items()}, final_bytes=0)
    given = Experts(request)(x.to("sim"), weights.to("sim"), experts.to("sim"), held)
    torch.testing.assert_close(given.cpu(), right, rtol=1e-4, atol=1e-4)
    assert not given.cpu()[3].any()


def test_what_it_has_not_is_refused(sim):
    plain = ExpertsRequest(
        device=sim.boards[0].props, experts=4, top_k=2, hidden=64, intermediate=32, dtype="fp32"
    )
    assert (
        "it has gelu, gelu_tanh, silu"
        in supports.experts(replace(plain, activation="swigluoai")).reason
    )
    fp8 = QuantScheme.named(weight="fp8_e4m3", granularity="channel")
    assert "weights are fp8_e4m3" in supports.experts(replace(plain, scheme=fp8)).reason
