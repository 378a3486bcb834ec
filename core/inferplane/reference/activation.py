"""Gated activations: act(gate) * up."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from inferplane.spec import ActivationRequest

_KINDS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
}


def gated(request: ActivationRequest) -> Callable[[torch.Tensor], torch.Tensor]:
    """limit clamps gate from above, and up on both sides."""
    act, limit = _KINDS[request.kind], request.limit

    def run(gate_up_T2N: torch.Tensor) -> torch.Tensor:
        gate_TN, up_TN = gate_up_T2N.chunk(2, dim=-1)
        if limit:
            gate_TN, up_TN = gate_TN.clamp(max=limit), up_TN.clamp(-limit, limit)
        return act(gate_TN) * up_TN

    return run
