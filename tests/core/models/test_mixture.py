"""Families with experts: their logits are those of transformers, and what config.json may say."""

import pytest
import torch
from tests.fakes.mixtures import MIXTURES

from inferplane.errors import UserError
from inferplane.models.deepseek import DeepseekV2, DeepseekV3
from inferplane.models.glm4_moe import Glm4Moe
from inferplane.models.gpt_oss import GptOss
from inferplane.models.qwen3_moe import Qwen3Moe

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="models", est_seconds=15)

TOLERANCE = 1e-4  # absolute; logits are about 2 in size


def token_ids(count: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 300, (count,), generator=generator).tolist()


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("length", [1, 150])
def test_logits_of_a_whole_prompt(name, length, make_llm, prompt_logits, reference_logits):
    ids = token_ids(length)
    found = prompt_logits(make_llm(name, max_num_batched_tokens=256), ids)
    torch.testing.assert_close(found, reference_logits(name, ids), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", MIXTURES)
def test_logits_of_a_prompt_in_chunks(name, make_llm, prompt_logits, reference_logits):
    ids = token_ids(150)
    found = prompt_logits(make_llm(name, max_num_batched_tokens=17), ids)
    torch.testing.assert_close(found, reference_logits(name, ids), atol=TOLERANCE, rtol=0)


REFERENCE = "moe.experts=reference.moe.experts,moe.route=reference.moe.route"


@pytest.mark.parametrize("name", ["mixtral", "gpt-oss", "deepseek-v2", "deepseek-v3"])
def test_logits_with_the_reference_kernels(name, make_llm, prompt_logits, reference_logits):
    ids = token_ids(60)
    heads = ",linear.heads=reference.linear.heads" if name.startswith("deepseek") else ""
    llm = make_llm(name, max_num_batched_tokens=17, kernel=REFERENCE + heads)
    found = prompt_logits(llm, ids)
    torch.testing.assert_close(found, reference_logits(name, ids), atol=TOLERANCE, rtol=0)


FUSED = ("deepseek-v2", "deepseek-v3", "glm4-moe-groups")


@pytest.mark.parametrize("name", FUSED)
def test_fused_shared_experts_give_the_same_logits(name, make_llm, prompt_logits):
    ids = token_ids(60)
    apart, fused = (
        make_llm(name, max_num_batched_tokens=17, fuse_shared_experts=f) for f in (False, True)
    )
    found, expected = prompt_logits(fused, ids), prompt_logits(apart, ids)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    requests = [choice.request for choice in fused.plan.resolution.choices.values()]
    shared = MIXTURES[name][1]["n_shared_experts"]
    assert {r.shared for r in requests if r.op == "moe.route"} == {shared}
    assert {r.top_k for r in requests if r.op == "moe.experts"} == {2 + shared}


def test_a_window_of_gpt_oss_changes_logits_beyond_it(make_llm, changed_config, prompt_logits):
    ids = token_ids(60)
    with_window = prompt_logits(make_llm("gpt-oss"), ids)
    without = prompt_logits(make_llm(changed_config("gpt-oss", sliding_window=None)), ids)
    changed = (with_window - without).abs().amax(-1) > TOLERANCE
    assert not changed[:24].any()
    assert changed[24:].all()


RAW = {
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "moe_intermediate_size": 32,
    "n_routed_experts": 8,
    "num_experts": 8,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
}


@pytest.mark.parametrize(
    ("family", "changes", "says"),
    [
        (Qwen3Moe, {"num_experts_per_tok": 9}, "num_experts_per_tok is 9; there are 8 experts"),
        (Qwen3Moe, {"moe_intermediate_size": None}, "has no 'moe_intermediate_size'"),
        (Qwen3Moe, {"num_experts": None, "num_local_experts": None}, "has no 'num_experts'"),
        (Qwen3Moe, {"mlp_only_layers": "all"}, "mlp_only_layers is 'all'"),
        (
            GptOss,
            {"swiglu_alpha": 1.5},
            "swiglu_alpha is 1.5; this architecture is built for 1.702",
        ),
        (GptOss, {"swiglu_limit": "7"}, "swiglu_limit is '7'; it must be a number"),
        (DeepseekV2, {"topk_method": "best"}, "topk_method is 'best'; known: greedy"),
        (DeepseekV2, {"norm_topk_prob": True}, "norm_topk_prob is True; .* built for False only"),
        (DeepseekV2, {"q_lora_rank": -1}, "q_lora_rank is -1"),
        (DeepseekV2, {"kv_lora_rank": None}, "has no 'kv_lora_rank'"),
        (DeepseekV3, {"scoring_func": "softmax"}, "scoring_func is 'softmax'"),
        (DeepseekV3, {"n_group": 3}, "8 experts in 3 groups .* are not groups of one size"),
        (DeepseekV3, {"n_group": 8}, "8 experts in 8 groups .* are single experts"),
        (DeepseekV3, {"n_group": 4, "topk_group": 5}, "cannot be chosen in 5 of them"),
        (DeepseekV3, {"n_group": 4, "num_experts_per_tok": 3}, "cannot be chosen in 1 of them"),
        (Glm4Moe, {"n_shared_experts": True}, "n_shared_experts is True"),
    ],
)
def test_what_does_not_fit_together_is_named(family, changes, says):
    with pytest.raises(UserError, match=says):
        family.read(RAW | changes)


@pytest.mark.parametrize(
    ("changes", "layers"),
    [
        ({}, (0, 1, 2)),
        ({"decoder_sparse_step": 2}, (1,)),
        ({"mlp_only_layers": [0, 2]}, (1,)),
        ({"decoder_sparse_step": 4}, ()),
    ],
)
def test_layers_with_experts_of_qwen3(changes, layers):
    assert Qwen3Moe.read(RAW | changes).moe_layers == layers


@pytest.mark.parametrize(
    ("changes", "layers"),
    [
        ({}, (0, 1, 2)),
        ({"first_k_dense_replace": 2}, (2,)),
        ({"moe_layer_freq": 2}, (0, 2)),
        ({"first_k_dense_replace": 3}, ()),
    ],
)
def test_layers_with_experts_of_deepseek(changes, layers):
    assert DeepseekV3.read(RAW | changes).moe_layers == layers


@pytest.mark.parametrize(("count", "layers"), [(None, "3"), (0, ""), (1, "3"), (2, "34")])
def test_layers_that_predict_further_tokens(count, layers):
    ignored = DeepseekV3.read(RAW | {"num_nextn_predict_layers": count}).ignored
    assert ignored == tuple(f"model.layers.{index}." for index in layers)


def test_a_model_without_layers_of_experts_has_none():
    config = DeepseekV3.read(RAW | {"first_k_dense_replace": 3, "n_group": 3})
    assert config.moe is None
