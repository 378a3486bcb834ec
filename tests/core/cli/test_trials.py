"""What kernels are given when they are compared."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from inferplane.cli.trials import CASES, Step, _Weights, call_of
from inferplane.planning.plan import make_plan
from inferplane.plugins.site import Site
from inferplane.reference.attention import Attention
from inferplane.settings import Settings
from inferplane.spec import (
    AttentionRequest,
    Candidate,
    GroupKind,
    RoutingRequest,
    Support,
    WeightPart,
)
from inferplane.spec.torch_types import torch_dtype

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="server", est_seconds=2)


@pytest.fixture(scope="module")
def made():
    sizes = {"max_num_seqs": 3, "max_num_batched_tokens": 40, "max_model_len": 64}
    return make_plan(Settings(model="tiny-arithmetic", device="cpu", tuning="none", **sizes))


def attention(made, **fields) -> AttentionRequest:
    given = {"heads": 4, "kv_heads": 2, "head_dim": 16, "dtype": "fp32", "kv_dtype": "fp32"}
    given |= {"page_size": 8, "scale": 0.25}
    return AttentionRequest(device=made.catalog.props, **given | fields)


class Seen(Attention):
    """Keeps what it is given."""

    def run(self, q, k, v, cache, plan, out, sinks=None, kv_scales=None):
        self.given = k, v, cache, kv_scales
        super().run(q, k, v, cache, plan, out, sinks, kv_scales)

    def plan(self, metadata, buffers):
        self.metadata = metadata
        return super().plan(metadata, buffers)


def called(request: AttentionRequest, made, case: str) -> tuple[Seen, torch.Tensor]:
    candidate = Candidate(
        op="attention", name="x.seen", supports=lambda r: Support.yes(), load=lambda: Seen
    )
    kernel = Seen(request)
    step = Step(made, case, made.catalog.device())
    return kernel, call_of(Site("attention"), request, candidate, kernel, step)()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"window": 5, "kind": GroupKind.WINDOW},
        {"sinks": True},
        {"kv_dtype": "fp8_e4m3", "kv_scales": True, "dtype": "bf16"},
        {"kind": GroupKind.LATENT, "kv_heads": 1, "head_dim": 24, "value_dim": 16},
    ],
    ids=["plain", "window", "sinks", "fp8", "latent"],
)
def test_the_keys_and_values_of_a_step_are_those_in_the_cache(made, case, fields):
    request = attention(made, **fields)
    kernel, out = called(request, made, case)
    k, v, cache, scales = kernel.given
    cells = torch.from_numpy(kernel.metadata.slots)
    assert len(cells.unique()) == len(k) == len(out) == {"decode": 3, "prefill": 40}[case]
    kept = cache.float().flatten(0, 1)[cells]
    factors = [1.0, 1.0] if scales is None else scales.tolist()
    if fields.get("kind") is GroupKind.LATENT:
        assert torch.equal(k[:, 0], kept)
        assert torch.equal(v, k[..., :16])
    else:
        assert torch.equal(k.float(), kept[:, 0] * factors[0])
        assert torch.equal(v.float(), kept[:, 1] * factors[1])
    assert out.isfinite().all()
    assert out.unique(dim=0).shape == out.shape  # rows have keys and values of their own


def test_the_same_numbers_are_drawn_for_each_kernel(made):
    request = attention(made)
    torch.manual_seed(1)
    _, first = called(request, made, "decode")
    torch.manual_seed(2)
    assert torch.equal(called(request, made, "decode")[1], first)


def test_all_pages_have_numbers(made):
    """More pages than are drawn."""
    many = replace(made, effective=made.effective.with_value("max_num_seqs", 20, "test"))
    cache = called(attention(made), many, "decode")[0].given[2]
    assert len(cache) == 20 * 8
    assert bool((cache != 0).all())
    assert not torch.equal(cache[0], cache[1])


def test_routing_is_given_logits_and_a_bias_where_there_is_one(made):
    request = RoutingRequest(device=made.catalog.props, experts=8, top_k=2, dtype="bf16", bias=True)
    candidate = Candidate(op="moe.route", name="x.y", supports=lambda r: Support.yes(), load="")
    step = Step(made, "prefill", made.catalog.device())
    logits, bias = call_of(Site("r"), request, candidate, lambda *given: given, step)()
    assert (logits.shape, logits.dtype) == ((40, 8), torch.bfloat16)
    assert (bias.shape, bias.dtype) == ((8,), torch.float32)


@pytest.mark.parametrize(("kind", "least"), [("fp32", 2.0**-7), ("bf16", 2.0**-7), ("uint8", 120)])
def test_scales_differ_from_one_group_to_the_next(kind, least):
    part = WeightPart(
        name="q", key="q.scale", full_shape=(8, 8), offset=(0, 0), shape=(8, 8), dtype=kind
    )
    found = weights(part)
    assert found.dtype == torch_dtype(kind)
    assert set(found.float().unique().tolist()) == {
        float(least),
        float(least + 1) if kind == "uint8" else 2.0**-6,
    }
    assert torch.equal(weights(part), found)


def test_biases_are_numbers_and_inputs_are_reordered():
    part = WeightPart(name="q", key="q.bias", full_shape=(8,), offset=(0,), shape=(8,))
    assert len(weights(part).unique()) == 8
    part = WeightPart(
        name="q", key="q.order", full_shape=(64,), offset=(0,), shape=(64,), dtype="int32"
    )
    found = weights(part)
    assert found.dtype == torch.int32
    assert sorted(found.tolist()) == list(range(64)) != found.tolist()


def weights(part: WeightPart) -> torch.Tensor:
    return _Weights(torch.device("cpu"), torch.bfloat16).read(part)
