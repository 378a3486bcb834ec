"""GLM-4.5 and 4.6: half of a head turns; experts are chosen as in DeepSeek-V3.

Source: arXiv 2508.06471 and the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .config import ConfigReader, DecoderConfig, read_decoder
from .decoder import Decoder
from .mixture import deepseek_moe, predicting_layers, sparse_layers


class Glm4Moe(Decoder):
    architecture = "Glm4MoeForCausalLM"

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> DecoderConfig:
        raw = {"partial_rotary_factor": 0.5, "first_k_dense_replace": 1, **raw}
        reader = ConfigReader(raw)
        moe_layers = sparse_layers(reader)
        moe = deepseek_moe(
            reader,
            scoring="sigmoid",
            correction="gate.e_score_correction_bias",
            renormalize=reader.flag("norm_topk_prob", True),
        )
        return read_decoder(
            raw,
            cls.architecture,
            qkv_bias=reader.flag("attention_bias"),
            qk_norm=reader.flag("use_qk_norm"),
            moe=moe if moe_layers else None,
            moe_layers=moe_layers,
            ignored=predicting_layers(reader),
        )
