"""Qwen3 with experts: some layers may keep a dense MLP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferplane.layers.moe import MoEConfig

from .config import ConfigReader, DecoderConfig, read_decoder
from .decoder import Decoder
from .mixture import read_experts


class Qwen3Moe(Decoder):
    architecture = "Qwen3MoeForCausalLM"

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> DecoderConfig:
        reader = ConfigReader(raw)
        bias, layers = reader.flag("attention_bias"), reader.number("num_hidden_layers")
        windows: tuple[int, ...] = ()
        if reader.flag("use_sliding_window") and raw.get("sliding_window"):
            windows = (reader.number("sliding_window"),) * layers
        every, dense = reader.number("decoder_sparse_step", 1), reader.ids("mlp_only_layers")
        return read_decoder(
            raw,
            cls.architecture,
            qk_norm=True,
            qkv_bias=bias,
            out_bias=bias,
            windows=windows,
            moe=MoEConfig(
                experts=read_experts(reader, "num_experts", "num_local_experts"),
                renormalize=reader.flag("norm_topk_prob"),
            ),
            moe_layers=tuple(
                index for index in range(layers) if index not in dense and (index + 1) % every == 0
            ),
        )
