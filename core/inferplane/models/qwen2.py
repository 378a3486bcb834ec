"""Qwen2 and Qwen2.5: biased q, k, v projections; some layers may have a sliding window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .config import DecoderConfig, layer_windows, read_decoder
from .decoder import Decoder


class Qwen2(Decoder):
    architecture = "Qwen2ForCausalLM"

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> DecoderConfig:
        return read_decoder(raw, cls.architecture, qkv_bias=True, windows=layer_windows(raw))
