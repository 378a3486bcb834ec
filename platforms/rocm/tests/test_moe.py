"""AITER's routing and experts: the calls (V2e), and what they refuse (V0)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from inferplane_rocm import supports
from inferplane_rocm.moe import AiterExperts, biased_topk, topk_softmax
from inferplane_rocm.plugin import inferplane_moe, inferplane_platform

from inferplane.reference.moe import Experts, route
from inferplane.spec import UNQUANTIZED, ExpertsRequest, QuantScheme, RoutingRequest

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=5)

PROFILES = {p.profile: p for p in inferplane_platform().profiles}
MI300X = PROFILES["mi300x"]
READY = replace(MI300X, details=(*MI300X.details, ("aiter", "0.1.20")))
ROWS = QuantScheme.named(weight="fp8_e4m3", activation="fp8_e4m3")
BLOCKS = QuantScheme.named(
    weight="fp8_e4m3", granularity="block", block=(128, 128), activation="fp8_e4m3",
    activation_granularity="group", activation_group=128,
)  # fmt: skip
SOFTMAX = RoutingRequest(device=READY, dtype="bf16", experts=16, top_k=4)
BIASED = replace(
    SOFTMAX,
    experts=64,
    dtype="fp32",
    scoring="sigmoid",
    bias=True,
    groups=8,
    top_groups=3,
    scaling=2.5,
)
EXPERTS = ExpertsRequest(
    device=READY, experts=3, top_k=2, hidden=128, intermediate=256, dtype="bf16"
)


class Source:
    path = "layer.experts"
    device = torch.device("cpu")

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self.tensors = tensors

    def names(self) -> list[str]:
        return list(self.tensors)

    def read(self, name: str) -> torch.Tensor:
        return self.tensors[name]


@pytest.mark.parametrize(
    ("kernel", "request_"),
    [
        (topk_softmax, SOFTMAX),
        (topk_softmax, replace(SOFTMAX, renormalize=False)),
        (biased_topk, BIASED),
        (biased_topk, replace(BIASED, renormalize=False)),
        (biased_topk, replace(BIASED, groups=0, top_groups=0, experts=24)),
    ],
)
def test_routing_is_the_references(kernel, request_, aiter):
    experts = request_.experts
    logits = torch.randn(7, experts, generator=torch.Generator().manual_seed(0))
    bias = (torch.linspace(-0.9, 0.3, experts),) if request_.bias else ()
    weights, experts = kernel(request_)(logits, *bias)
    right, best = route(request_)(logits, *bias)
    assert experts.tolist() == best.tolist()
    torch.testing.assert_close(weights, right)


@pytest.mark.parametrize("profile", ["mi300x", "mi355x"])
@pytest.mark.parametrize("scheme", [UNQUANTIZED, ROWS, BLOCKS], ids=lambda s: s.name)
def test_experts_are_the_references_in_either_encoding(scheme, profile, aiter):
    request = replace(EXPERTS, device=PROFILES[profile], scheme=scheme)
    chance = torch.Generator().manual_seed(1)
    tensors = {}
    for name, shape in (("gate_up", (3, 512, 128)), ("down", (3, 128, 256))):
        weight = torch.randn(shape, generator=chance) / 8
        if scheme.quantized:
            by_row = scheme.granularity == "channel"
            size = shape[:2] if by_row else (3, shape[1] // 128, shape[2] // 128)
            tensors[f"{name}.scale"] = torch.rand(size, generator=chance) + 0.5
        kind = torch.float8_e4m3fn if scheme.quantized else torch.bfloat16
        tensors[f"{name}.weight"] = weight.to(kind)
    x = torch.randn(5, 128, generator=chance).bfloat16()
    chosen = torch.tensor([[0, 1], [2, -1], [-1, -1], [1, 0], [2, 0]], dtype=torch.int32)
    given = x, torch.rand(5, 2, generator=chance), chosen
    made, oracle = AiterExperts(request), Experts(request)
    found = made(*given, made.prepare(Source(tensors))).float()
    right = oracle(*given, oracle.prepare(Source(tensors))).float()
    assert float((found - right).abs().max()) < 0.08 * float(right.abs().max())
    assert torch.equal(found[2], torch.zeros(128))


REFUSED = [
    (supports.aiter_topk_softmax, replace(SOFTMAX, experts=1024), "1024 experts"),
    (supports.aiter_biased_topk, replace(BIASED, bias=False), "DeepSeek-V3's routing"),
    (supports.aiter_biased_topk, replace(BIASED, groups=4), "64 experts in 4 groups"),
    (supports.aiter_biased_topk, replace(BIASED, experts=48), "48 experts in 8 groups"),
    (supports.aiter_biased_topk, replace(BIASED, experts=520), "520 experts"),
    (supports.aiter_biased_topk, replace(BIASED, experts=256, top_k=65), "65 a token"),
    (supports.aiter_experts, replace(EXPERTS, dtype="fp32"), "dtype is fp32"),
    (supports.aiter_experts, replace(EXPERTS, intermediate=192), "128 and 192"),
    (
        supports.aiter_experts,
        replace(EXPERTS, scheme=replace(ROWS, dynamic=False)),
        "it has fp8 by row",
    ),
    (
        supports.aiter_experts,
        replace(EXPERTS, scheme=QuantScheme.named(weight="int8")),
        "scheme is int8-channel",
    ),
    (supports.aiter_experts, replace(EXPERTS, device=MI300X), "amd-aiter is not installed"),
]


@pytest.mark.parametrize(("answer", "request_", "reason"), REFUSED)
def test_a_refusal_says_what_was_asked(answer, request_, reason):
    assert reason in answer(request_).reason


def test_what_is_usual_is_served_and_other_semantics_are_not_named():
    offers = {offer.name: offer for offer in inferplane_moe(READY)}
    for name, request in (
        ("rocm.aiter_topk_softmax", SOFTMAX),
        ("rocm.aiter_biased_topk", BIASED),
        ("rocm.aiter_fused_moe", replace(EXPERTS, scheme=BLOCKS)),
    ):
        assert offers[name].supports(request).ok
        assert request.requires <= offers[name].features
    experts = offers["rocm.aiter_fused_moe"]
    assert not replace(EXPERTS, bias=True).requires <= experts.features
    assert not replace(EXPERTS, limit=7.0).requires <= experts.features
    assert not replace(BIASED, scoring="softmax", group_score="max").requires <= experts.features
