"""Two ranks compute what one computes. The ranks are threads, joined by a fake communicator."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from tests.fakes.models import LATENT, build, logits, plan
from tests.fakes.plugins import candidate

from inferplane.errors import UserError
from inferplane.spec import Group, Mesh

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=9)


class Threads:
    """Sums over ranks that are threads of this process."""

    def __init__(self, ranks: int) -> None:
        self.barrier = threading.Barrier(ranks, timeout=60)
        self.given: list[Any] = [None] * ranks
        self.calls = 0

    def all_reduce(self, x: torch.Tensor, group: Group) -> torch.Tensor:
        self.given[group.rank] = x
        self.calls += group.rank == 0
        self.barrier.wait()
        total = sum(self.given)
        self.barrier.wait()  # all have read what others gave
        return x.copy_(total)


def on_two_ranks(folder, **config) -> tuple[list[torch.Tensor], Threads]:
    threads = Threads(2)
    kernel = candidate("extra.threads", op="all_reduce", load=lambda: lambda request: threads)
    pin = ["all_reduce=extra.threads"]
    plans = [plan(folder, [kernel], Mesh(tp=2, rank=r), pin, **config) for r in range(2)]
    runners = [build(made) for made in plans]
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda runner: logits(runner, (12, 1, 7)), runners)), threads


@pytest.mark.parametrize("tied", [False, True])
def test_two_ranks_give_the_logits_of_one(tmp_path, tied):
    alone = logits(build(plan(tmp_path, tie_word_embeddings=tied)))
    ranks, _ = on_two_ranks(tmp_path, tie_word_embeddings=tied)
    for found in ranks:
        torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-4)


EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2}
MIXTURES = {
    "mixtral": EXPERTS | {"architectures": ["MixtralForCausalLM"]},
    "qwen3": EXPERTS | {"architectures": ["Qwen3MoeForCausalLM"], "moe_intermediate_size": 16},
    "glm": LATENT | {"architectures": ["Glm4MoeForCausalLM"], "attention_bias": True},
    "latent": LATENT,
    "latent without q rank": LATENT | {"q_lora_rank": None},
}


@pytest.mark.parametrize("name", MIXTURES)
def test_two_ranks_give_the_logits_of_one_with_experts(tmp_path, name):
    alone = logits(build(plan(tmp_path, **MIXTURES[name])))
    ranks, threads = on_two_ranks(tmp_path, **MIXTURES[name])
    for found in ranks:
        torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-4)
    assert threads.calls == 3 * 3 * 2


def test_a_rank_reads_its_heads_of_a_shared_projection(tmp_path):
    needs = [
        need
        for need in plan(tmp_path, mesh=Mesh(tp=2, rank=1), **LATENT).root.needs()
        if need.parts[0].key.endswith("layers.0.self_attn.kv_b_proj.weight")
    ]
    assert [(n.parts[0].offset, n.parts[0].shape) for n in needs] == [
        ((2, 0, 0), (2, 24, 12)),
        ((2, 0, 0), (2, 10, 24)),
    ]


def test_a_layer_reduces_twice(tmp_path):
    _, threads = on_two_ranks(tmp_path)
    assert threads.calls == 3 * 3 * 2  # steps, layers, attention and MLP


def test_a_rank_reads_half_of_the_sharded_weights(tmp_path):
    sizes = [plan(tmp_path, mesh=Mesh(tp=tp)).root for tp in (1, 2)]
    whole, half = (
        sum(n.elements for n in root.needs() if n.parts[0].key.endswith("down_proj.weight"))
        for root in sizes
    )
    assert whole == 2 * half


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"num_key_value_heads": 1}, "4 heads and 1 kv heads cannot be cut by 2"),
        ({"intermediate_size": 49}, "gate_proj: 49 cannot be cut into 2"),
        ({"attention_bias": True}, "o_proj has a bias, which each of 2 ranks would add"),
        (LATENT | {"num_attention_heads": 5}, "5 heads cannot be cut by 2"),
    ],
)
def test_what_cannot_be_cut_is_refused(tmp_path, config, says):
    with pytest.raises(UserError, match=says):
        plan(tmp_path, mesh=Mesh(tp=2), **config)
