"""Tiny checkpoints of the families with experts, by name: (family, changes of its config).

transformers stacks experts in memory and takes them apart when it saves, so what is on disk has the
names of the published checkpoints.
"""

from __future__ import annotations

from typing import Any

_SMALL = {"moe_intermediate_size": 32, "num_experts_per_tok": 2}
_QWEN = {**_SMALL, "num_experts": 8, "head_dim": 16}
_GPT = {
    "intermediate_size": 48,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "head_dim": 16,
    "sliding_window": 24,
}
_ROUTED = {**_SMALL, "n_routed_experts": 8}
_LATENT = {
    **_ROUTED,
    "num_key_value_heads": 4,
    "kv_lora_rank": 32,
    "q_lora_rank": 24,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "first_k_dense_replace": 1,
}
_YARN = {
    "rope_theta": 10000.0,
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 128,
}
MIXTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3-moe": ("Qwen3Moe", {**_QWEN, "norm_topk_prob": True}),
    "qwen3-moe-some-layers": (
        "Qwen3Moe",
        {**_QWEN, "num_hidden_layers": 4, "decoder_sparse_step": 2, "mlp_only_layers": [1]},
    ),
    "mixtral": ("Mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "mixtral-window": ("Mixtral", {"num_local_experts": 4, "sliding_window": 24}),
    "gpt-oss": (
        "GptOss",
        {
            **_GPT,
            "num_hidden_layers": 3,
            "rope_parameters": {**_YARN, "rope_theta": 150000.0, "truncate": False},
        },
    ),
    "gpt-oss-layer-types": (
        "GptOss",
        {
            **_GPT,
            "attention_bias": False,
            "layer_types": ["full_attention", "sliding_attention"],
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        },
    ),
    "deepseek-v2": (
        "DeepseekV2",
        {
            **_LATENT,
            "n_shared_experts": 2,
            "topk_method": "group_limited_greedy",
            "n_group": 2,
            "topk_group": 1,
            "routed_scaling_factor": 2.0,
            "rope_parameters": {**_YARN, "mscale": 0.7, "mscale_all_dim": 0.5},
        },
    ),
    "deepseek-v2-lite": (
        "DeepseekV2",
        {**_LATENT, "q_lora_rank": None, "n_shared_experts": 1, "first_k_dense_replace": 0},
    ),
    "deepseek-v3": (
        "DeepseekV3",
        {
            **_LATENT,
            "n_shared_experts": 1,
            "n_group": 4,
            "topk_group": 2,
            "rope_parameters": {**_YARN, "mscale": 1.0, "mscale_all_dim": 1.0},
        },
    ),
    "deepseek-v3-plain": (
        "DeepseekV3",
        {
            **_LATENT,
            "q_lora_rank": None,
            "attention_bias": True,
            "n_shared_experts": 2,
            "n_group": 1,
            "topk_group": 1,
            "norm_topk_prob": False,
            "rope_interleave": False,
            "first_k_dense_replace": 2,
            "num_hidden_layers": 3,
        },
    ),
    "glm4-moe": (
        "Glm4Moe",
        {**_ROUTED, "head_dim": 16, "use_qk_norm": True, "attention_bias": True},
    ),
    "glm4-moe-groups": (
        "Glm4Moe",
        {
            **_ROUTED,
            "head_dim": 32,
            "n_group": 2,
            "topk_group": 1,
            "norm_topk_prob": False,
            "routed_scaling_factor": 2.5,
            "n_shared_experts": 2,
            "num_hidden_layers": 3,
            "rope_parameters": {"rope_theta": 10000.0, "partial_rotary_factor": 0.25},
        },
    ),
}
