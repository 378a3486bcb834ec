"""Gated activations: the gate's function times the values."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from inferplane.spec import ActivationRequest

ALPHA = 1.702
"""Of "swigluoai", as published with gpt-oss."""

_KINDS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "swigluoai": lambda x: x * torch.sigmoid(ALPHA * x),
}
KINDS = tuple(_KINDS)


def gate(kind: str, limit: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """[T, 2N] -> [T, N]. limit clamps gate from above, and up on both sides."""
    act, shift = _KINDS[kind], 1.0 if kind == "swigluoai" else 0.0

    def run(gate_up_T2N: torch.Tensor) -> torch.Tensor:
        gate_TN, up_TN = gate_up_T2N.chunk(2, dim=-1)
        if limit:
            gate_TN, up_TN = gate_TN.clamp(max=limit), up_TN.clamp(-limit, limit)
        return act(gate_TN) * (up_TN + shift if shift else up_TN)

    return run


def gated(request: ActivationRequest) -> Callable[[torch.Tensor], torch.Tensor]:
    return gate(request.kind, request.limit)
