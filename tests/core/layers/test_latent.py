"""Latent attention: the absorbed form is what the definition gives, out of a small cache."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tests.fakes.models import CONFIG, LATENT, Weights, build, logits, plan
from tests.fakes.plugins import candidate

from inferplane.spec import GroupKind, Packed

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=6)

HEADS, RANK, NOPE, ROPE, VALUE, HIDDEN = 4, 24, 12, 8, 10, CONFIG["hidden_size"]
YARN = {
    "type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 32,
    "mscale": 0.7,
    "mscale_all_dim": 0.5,
}


def weight(name: str, *shape: int) -> torch.Tensor:
    return Weights().whole(f"model.layers.1.self_attn.{name}.weight", shape)


def norm(x: torch.Tensor, name: str) -> torch.Tensor:
    scaled = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
    return scaled * weight(name, x.shape[-1])


def turn(x: torch.Tensor, neighbours: bool) -> torch.Tensor:
    """x [L, ..., ROPE] at positions 0 to L - 1, as complex numbers."""
    angles = torch.outer(torch.arange(len(x)), 10000.0 ** -(torch.arange(0, ROPE, 2) / ROPE))
    pairs = x.unflatten(-1, (-1, 2) if neighbours else (2, -1)).movedim(-1 if neighbours else -2, 0)
    number = torch.complex(pairs[0], pairs[1])
    turned = number * torch.polar(torch.ones_like(angles), angles).view(
        len(x), *[1] * (x.dim() - 2), -1
    )
    return torch.cat([turned.real, turned.imag], -1)


def expanded(x_LC: torch.Tensor, q_rank: int | None, neighbours: bool = True) -> torch.Tensor:
    """The definition: keys and values of every head are made out of the latent vectors."""
    length, query = len(x_LC), HEADS * (NOPE + ROPE)
    if q_rank:
        latent = norm(x_LC @ weight("q_a_proj", q_rank, HIDDEN).T, "q_a_layernorm")
        q = latent @ weight("q_b_proj", query, q_rank).T
    else:
        q = x_LC @ weight("q_proj", query, HIDDEN).T
    q_nope, q_rope = q.view(length, HEADS, -1).split((NOPE, ROPE), -1)
    given = x_LC @ weight("kv_a_proj_with_mqa", RANK + ROPE, HIDDEN).T
    latent, k_rope = given.split((RANK, ROPE), -1)
    both = norm(latent, "kv_a_layernorm") @ weight("kv_b_proj", HEADS * (NOPE + VALUE), RANK).T
    k_nope, v = both.view(length, HEADS, -1).split((NOPE, VALUE), -1)
    q_rope, k_rope = turn(q_rope, neighbours), turn(k_rope, neighbours)
    scores = torch.einsum("lhd,mhd->hlm", q_nope, k_nope)
    scores = (scores + torch.einsum("lhd,md->hlm", q_rope, k_rope)) * (NOPE + ROPE) ** -0.5
    past = torch.ones(length, length, dtype=torch.bool).tril()
    weights = scores.masked_fill(~past, -math.inf).softmax(-1)
    out = torch.einsum("hlm,mhd->lhd", weights, v).flatten(1)
    return out @ weight("o_proj", HIDDEN, HEADS * VALUE).T


def watched(runner: Any, chunks: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """(inputs, results) of the second layer's attention, over a prompt in chunks."""
    layer = runner.model.layers[1]
    attention, seen = layer.attention, []

    def watch(x_TC: Any, step: Any) -> Any:
        given, y_TC = x_TC.clone(), attention(x_TC, step)
        seen.append((given, y_TC.clone()))  # what follows may write to both
        return y_TC

    layer.attention = watch
    logits(runner, chunks)
    return torch.cat([x for x, _ in seen]), torch.cat([y for _, y in seen])


@pytest.mark.parametrize("q_rank", [20, None])
@pytest.mark.parametrize("interleave", [True, False])
@pytest.mark.parametrize("chunks", [(20,), (7, 6, 1, 5, 1)])
def test_the_absorbed_form_is_the_definition(tmp_path, q_rank, interleave, chunks):
    config = LATENT | {"q_lora_rank": q_rank, "rope_interleave": interleave}
    x, y = watched(build(plan(tmp_path, **config)), chunks)
    torch.testing.assert_close(y, expanded(x, q_rank, interleave), atol=1e-4, rtol=1e-4)


@pytest.fixture
def planned(tmp_path):
    return plan(tmp_path, **LATENT)


def test_a_token_takes_a_latent_vector_and_a_rotated_key(planned):
    assert planned.budget.token_bytes == 3 * (RANK + ROPE) * 4
    cache = build(planned).slots[0].cache
    assert cache.shape == (16, 16, RANK + ROPE)


def test_the_group_is_latent_and_keeps_every_token(planned):
    (group,) = planned.groups
    assert (group.kind, group.layout.name, group.window) == (GroupKind.LATENT, "latent", 0)


def request(planned: Any, path: str) -> Any:
    return planned.resolution.choices[f"model.layers.0.self_attn.{path}"].request


def test_attention_is_asked_for_one_key_head_of_all_queries(planned):
    asked = request(planned, "attention")
    assert (asked.heads, asked.kv_heads, asked.head_dim) == (HEADS, 1, RANK + ROPE)
    assert (asked.value_dim, asked.out_dim) == (RANK, RANK)
    assert asked.requires == {"latent", "value_dim"}
    assert asked.scale == (NOPE + ROPE) ** -0.5


def test_the_scale_follows_the_long_contexts_of_yarn(tmp_path):
    asked = request(plan(tmp_path, **LATENT, rope_scaling=YARN), "attention")
    factor = 0.1 * 0.5 * math.log(4.0) + 1
    assert asked.scale == pytest.approx((NOPE + ROPE) ** -0.5 * factor**2)


def test_the_block_is_offered_with_the_requests_of_its_parts(planned):
    block = planned.resolution.composed["model.layers.0.self_attn"].request
    assert block.op == "attention.latent_block"
    assert (block.heads, block.q_rank, block.kv_rank) == (HEADS, 20, RANK)
    assert [part.op for part in block.parts] == [
        *("linear", "norm.rms", "linear"),
        *("linear", "norm.rms", "rotary", "kv.write"),
        *("linear.heads", "attention", "linear.heads", "linear"),
    ]
    assert {"latent", "interleaved"} <= block.requires


class LargeKernel:
    """The whole block, out of the weights of the composition's children."""

    calls = 0

    def __init__(self, request: Any) -> None:
        self.request = request

    def prepare(self, source: Any) -> Packed:
        names = ("q_a_proj", "q_a_layernorm", "q_b_proj", "kv_a_proj_with_mqa", "kv_a_layernorm")
        names += ("w_uk", "w_uv", "o_proj")
        found = {name: source.child(name).read("weight") for name in names}
        return Packed(data=found, final_bytes=sum(tensor.nbytes for tensor in found.values()))

    def step(self, table: torch.Tensor, positions_T: torch.Tensor) -> Any:
        cos, sin = table.index_select(0, positions_T).chunk(2, -1)
        return torch.complex(cos, sin)

    def __call__(self, x_TC: Any, step: Any, slot: Any, packed: Packed) -> Any:
        LargeKernel.calls += 1
        r, w, group = self.request, packed.data, step.groups[slot.group]
        angles = step.rotary[slot.rotary]

        def normed(x: torch.Tensor, name: str) -> torch.Tensor:
            return torch.nn.functional.rms_norm(x, x.shape[-1:], w[name], 1e-6)

        def turned(x: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
            pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
            return torch.view_as_real(pairs * by).flatten(-2)

        q = normed(x_TC @ w["q_a_proj"].T, "q_a_layernorm") @ w["q_b_proj"].T
        q_nope, q_rope = q.view(len(x_TC), r.heads, -1).split((r.nope_dim, r.rope_dim), -1)
        latent, k_rope = (x_TC @ w["kv_a_proj_with_mqa"].T).split((r.kv_rank, r.rope_dim), -1)
        k = torch.cat([normed(latent, "kv_a_layernorm"), turned(k_rope, angles)], -1)
        slot.cache.flatten(0, 1)[group.slots] = k
        q_latent = torch.einsum("thn,hrn->thr", q_nope, w["w_uk"])
        q = torch.cat([q_latent, turned(q_rope, angles[:, None])], -1)
        out = q.new_empty(len(x_TC), r.heads, r.kv_rank)
        slot.kernel.run(q, k[:, None], k[:, None, : r.kv_rank], slot.cache, group.plan, out)
        return torch.einsum("thr,hvr->thv", out, w["w_uv"]).flatten(1) @ w["o_proj"].T


def test_a_larger_kernel_may_take_the_block(tmp_path):
    large = candidate(
        "extra.latent",
        op="attention.latent_block",
        level="block",
        features={"latent", "value_dim", "interleaved"},
        load=lambda: LargeKernel,
    )
    composed = logits(build(plan(tmp_path, **LATENT)), (7, 6, 1, 5, 1))
    runner = build(plan(tmp_path, [large], **LATENT))
    LargeKernel.calls = 0
    found = logits(runner, (7, 6, 1, 5, 1))
    assert LargeKernel.calls == 3 * 5
    torch.testing.assert_close(found, composed, atol=1e-4, rtol=1e-4)
