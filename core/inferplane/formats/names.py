"""Which modules a list in a checkpoint's config is about. A module is a dotted path."""

from __future__ import annotations

from collections.abc import Iterable

ROUTERS = frozenset({"gate", "router", "shared_expert_gate"})
"""Last words of projections from a token to experts. Tools that calibrate leave them alone."""

OUTSIDE = frozenset({"lm_head", "embed_tokens"})
"""Last words of the projection to the vocabulary; the second where it is tied to the embedding."""


def last_word(module: str) -> str:
    return module.rpartition(".")[2]


def is_kept(module: str) -> bool:
    """Whether tools that quantize decoder layers one by one leave it alone."""
    return last_word(module) in ROUTERS | OUTSIDE


def is_or_is_in(module: str, names: Iterable[str]) -> bool:
    """Whether a name's words, next to each other, are in the module's path."""
    path = f".{module}."
    return any(f".{name}." in path for name in names if name)


def contains(module: str, pieces: Iterable[str]) -> bool:
    """Whether a piece is anywhere in the path, cut where it may be."""
    return any(piece in module for piece in pieces if piece)
