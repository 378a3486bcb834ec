"""gpt-oss: attention sinks, a sliding window in every other layer, biased experts.

Sources: the model card (arXiv 2508.10925) and the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferplane.layers.moe import MoEConfig

from .config import ConfigReader, DecoderConfig, layer_kinds, read_decoder
from .decoder import Decoder
from .mixture import read_experts

_ROPE = {
    "rope_type": "yarn",
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 4096,
}


class GptOss(Decoder):
    architecture = "GptOssForCausalLM"

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> DecoderConfig:
        raw = {"rope_theta": 150000.0, "head_dim": 64, "rms_norm_eps": 1e-5, **raw}
        if not raw.get("rope_parameters") and not raw.get("rope_scaling"):
            raw["rope_scaling"] = _ROPE
        if not raw.get("dtype") and not raw.get("torch_dtype"):  # published files name none
            raw["dtype"] = "bfloat16"
        reader = ConfigReader(raw)
        reader.only("swiglu_alpha", 1.702)
        bias, layers = reader.flag("attention_bias", True), reader.number("num_hidden_layers")
        windows: tuple[int, ...] = ()
        if raw.get("sliding_window"):
            window = reader.number("sliding_window")
            kinds = layer_kinds(raw) or ("sliding_attention", "full_attention") * layers
            windows = tuple(window if kind == "sliding_attention" else 0 for kind in kinds[:layers])
        experts = read_experts(
            reader,
            "num_local_experts",
            "num_experts",
            intermediate=reader.number("intermediate_size"),
            activation="swigluoai",
            limit=reader.real("swiglu_limit", 7.0),
            bias=True,
            stacked=True,
            transposed=True,
        )
        return read_decoder(
            raw,
            cls.architecture,
            qkv_bias=bias,
            out_bias=bias,
            windows=windows,
            sinks=True,
            moe=MoEConfig(experts=experts, router="router", router_bias=True),
            moe_layers=tuple(range(layers)),
        )
