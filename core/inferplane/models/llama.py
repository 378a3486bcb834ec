"""Llama 2, 3, 3.1 and others of the same architecture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .config import ConfigReader, DecoderConfig, read_decoder
from .decoder import Decoder


class Llama(Decoder):
    architecture = "LlamaForCausalLM"

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> DecoderConfig:
        reader = ConfigReader(raw)
        bias = reader.flag("attention_bias")
        return read_decoder(
            raw, cls.architecture, qkv_bias=bias, out_bias=bias, mlp_bias=reader.flag("mlp_bias")
        )
