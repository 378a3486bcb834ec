"""Modules that quantizing tools leave alone without a word in the config."""

from __future__ import annotations

from .matching import ROUTERS

OUTSIDE = ("lm_head", "embed_tokens")
"""Last names of the projection to the vocabulary; the second where it is tied to the embedding."""


def last_word(module: str) -> str:
    return module.rpartition(".")[2]


def is_kept(module: str) -> bool:
    """Whether tools that quantize decoder layers one by one leave a module alone: it is outside of
    the layers, or chooses experts."""
    return last_word(module) in (*ROUTERS, "shared_expert_gate", *OUTSIDE)
