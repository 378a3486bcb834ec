"""DeepSeek-V2 and V3: latent attention, and many small experts beside shared ones.

Sources: arXiv 2405.04434 (V2), 2412.19437 (V3). R1 and V3.1 have the architecture of V3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from inferplane.layers.latent import LatentConfig
from inferplane.layers.moe import MoEConfig
from inferplane.layers.rotary import Rope

from .config import ConfigReader, DecoderConfig, read_decoder
from .decoder import Decoder
from .mixture import deepseek_moe, predicting_layers, sparse_layers


class DeepseekV2(Decoder):
    architecture = "DeepseekV2ForCausalLM"

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> DecoderConfig:
        reader = ConfigReader(raw)
        moe_layers = sparse_layers(reader)
        rope_dim = reader.number("qk_rope_head_dim")
        latent = LatentConfig(
            hidden=reader.number("hidden_size"),
            heads=reader.number("num_attention_heads"),
            q_rank=reader.count("q_lora_rank"),
            kv_rank=reader.number("kv_lora_rank"),
            nope_dim=reader.number("qk_nope_head_dim"),
            rope_dim=rope_dim,
            value_dim=reader.number("v_head_dim"),
            rope=replace(Rope.read(raw, rope_dim), style=cls.style(reader)),
            bias=reader.flag("attention_bias"),
        )
        return read_decoder(
            # a cache of one key head, whatever the file says
            {**raw, "head_dim": rope_dim, "num_key_value_heads": None},
            cls.architecture,
            kv_heads=1,
            head_dim=latent.query_dim,
            rope=latent.rope,
            latent=latent,
            moe=cls.experts(reader) if moe_layers else None,
            moe_layers=moe_layers,
            ignored=predicting_layers(reader),
        )

    @staticmethod
    def style(reader: ConfigReader) -> Any:
        return "interleaved"

    @staticmethod
    def experts(reader: ConfigReader) -> MoEConfig:
        """Softmax; within the best groups, judged by their best expert, where the file says so."""
        reader.only("scoring_func", "softmax")
        reader.only("norm_topk_prob", False)
        methods = {"greedy": "", "group_limited_greedy": "groups"}
        grouped = bool(reader.choice("topk_method", methods, "greedy"))
        return deepseek_moe(reader, grouped, renormalize=False, group_score="max")


class DeepseekV3(DeepseekV2):
    architecture = "DeepseekV3ForCausalLM"

    @staticmethod
    def style(reader: ConfigReader) -> Any:
        return "interleaved" if reader.flag("rope_interleave", True) else "neox"

    @staticmethod
    def experts(reader: ConfigReader) -> MoEConfig:
        """Sigmoid, with a bias that moves the choice; groups are judged by their two best."""
        reader.only("scoring_func", "sigmoid")
        reader.only("topk_method", "noaux_tc")
        return deepseek_moe(
            reader,
            scoring="sigmoid",
            correction="gate.e_score_correction_bias",
            renormalize=reader.flag("norm_topk_prob", True),
        )
