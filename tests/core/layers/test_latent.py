"""Latent attention: the absorbed form is what the definition gives, out of a small cache."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tests.fakes.models import CONFIG, LATENT, Weights, build, logits, plan

from inferplane.spec import GroupKind

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
