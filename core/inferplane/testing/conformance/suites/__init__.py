"""One file an op. `find(op)` gives its suite, or None where the kit has none yet."""

from __future__ import annotations

from importlib import import_module

from ..suite import Suite

_WHERE = {
    "norm.rms": "norm:Norm",
    "norm.add_rms": "norm:AddNorm",
    "rotary": "rotary:Rotary",
    "activation.gated": "activation:Gated",
    "embedding": "embedding:Embedding",
    "kv.write": "kv:Write",
    "attention": "attention:Attention",
    "linear": "linear:Linear",
    "linear.heads": "heads:Heads",
    "moe.route": "routing:Routing",
    "moe.experts": "experts:Experts",
    "sample": "sampling:Sample",
    "attention.input": "composites:AttentionInput",
    "attention.block": "composites:AttentionBlock",
    "mlp.block": "composites:MLPBlock",
    "layer": "composites:Layer",
}

OPS_WITH_SUITES = tuple(_WHERE)


def find(op: str) -> Suite | None:
    """Importing a suite imports no torch."""
    if op not in _WHERE:
        return None
    module, _, name = _WHERE[op].partition(":")
    suite: Suite = getattr(import_module(f"{__name__}.{module}"), name)()
    return suite
