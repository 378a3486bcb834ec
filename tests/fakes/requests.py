"""Requests with short spellings."""

from __future__ import annotations

from typing import Any

from inferplane.spec import (
    ActivationRequest,
    AttentionRequest,
    GatedMLPRequest,
    LinearRequest,
    NormRequest,
    TokenRange,
)

from .plugins import PROPS


def linear(**changes: Any) -> LinearRequest:
    fields = {"device": PROPS, "in_features": 8, "out_features": 16, "dtype": "fp32"}
    return LinearRequest(**(fields | changes))


def norm(**changes: Any) -> NormRequest:
    return NormRequest(**({"device": PROPS, "size": 8, "dtype": "fp32", "eps": 1e-6} | changes))


def attention(**changes: Any) -> AttentionRequest:
    fields = {
        "device": PROPS,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 8,
        "dtype": "fp32",
        "kv_dtype": "fp32",
        "page_size": 16,
        "scale": 0.5,
    }
    return AttentionRequest(**(fields | changes))


def mlp(**changes: Any) -> GatedMLPRequest:
    fields = {
        "device": PROPS,
        "gate_up": linear(parts=(8, 8)),
        "activation": ActivationRequest(device=PROPS, size=8, dtype="fp32"),
        "down": linear(in_features=8, out_features=8),
    }
    return GatedMLPRequest(**(fields | changes))


def tokens(first: int, last: int = 1 << 30) -> TokenRange:
    return TokenRange(first, last)
