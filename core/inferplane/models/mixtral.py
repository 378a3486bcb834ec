"""Mixtral: Mistral with experts in every layer. Source: arXiv 2401.04088."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferplane.layers.moe import MoEConfig

from .config import ConfigReader, DecoderConfig, read_decoder
from .decoder import Decoder
from .mixture import read_experts


class Mixtral(Decoder):
    architecture = "MixtralForCausalLM"

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> DecoderConfig:
        raw = {"rope_theta": 1e6, "num_local_experts": 8, "num_experts_per_tok": 2, **raw}
        reader = ConfigReader(raw)
        window = reader.number("sliding_window") if raw.get("sliding_window") else 0
        layers = reader.number("num_hidden_layers")
        experts = read_experts(
            reader,
            "num_local_experts",
            intermediate=reader.number("intermediate_size"),
            gate="w1",
            up="w3",
            down="w2",
        )
        return read_decoder(
            raw,
            cls.architecture,
            windows=(window,) * layers if window else (),
            moe=MoEConfig(experts=experts),
            moe_layers=tuple(range(layers)),
            moe_path="block_sparse_moe",
        )
