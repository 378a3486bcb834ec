"""Mistral 7B and its successors: Llama with a sliding window in every layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .config import ConfigReader, DecoderConfig, read_decoder
from .decoder import Decoder


class Mistral(Decoder):
    architecture = "MistralForCausalLM"

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> DecoderConfig:
        reader = ConfigReader(raw)
        window = reader.number("sliding_window") if raw.get("sliding_window") else 0
        layers = reader.number("num_hidden_layers")
        return read_decoder(raw, cls.architecture, windows=(window,) * layers if window else ())
