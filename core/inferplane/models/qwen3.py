"""Qwen3: q/k norm instead of biases, and a head size of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .config import ConfigReader, DecoderConfig, layer_windows, read_decoder
from .decoder import Decoder


class Qwen3(Decoder):
    architecture = "Qwen3ForCausalLM"

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> DecoderConfig:
        bias = ConfigReader(raw).flag("attention_bias")
        raw = {"head_dim": 128, **raw}
        return read_decoder(
            raw,
            cls.architecture,
            qk_norm=True,
            qkv_bias=bias,
            out_bias=bias,
            windows=layer_windows(raw),
        )
