"""Random experts, and what the definition makes of them in fp64."""

from __future__ import annotations

import torch

from inferplane.reference.moe import Experts
from inferplane.spec import ExpertsRequest
from inferplane.spec.torch_types import torch_dtype

from .schemes import Source, drawn


def drawn_experts(
    asked: ExpertsRequest, tokens: int, seed: int
) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """(canonical tensors, x [T, C] in the request's dtype, weights fp32 [T, E])."""
    generator, dtype = torch.Generator().manual_seed(seed), torch_dtype(asked.dtype)
    wide, size = asked.intermediate, asked.hidden
    tensors = {}
    for name, parts, inputs in (("gate_up", (wide, wide), size), ("down", (size,), wide)):
        own = drawn(asked.scheme, parts, inputs, seed, asked.experts)
        if not asked.scheme.quantized:
            own["weight"] = (own["weight"] * 4 * inputs**-0.5).to(dtype)
        if asked.bias:
            own["bias"] = torch.randn(asked.experts, sum(parts), generator=generator).to(dtype)
        tensors |= {f"{name}.{key}": tensor for key, tensor in own.items()}
    x = torch.randn(tokens, size, generator=generator).to(dtype)
    return tensors, x, torch.rand(tokens, asked.top_k, generator=generator)


def exact(
    asked: ExpertsRequest,
    tensors: dict[str, torch.Tensor],
    x: torch.Tensor,
    weights: torch.Tensor,
    chosen: torch.Tensor,
) -> torch.Tensor:
    kernel = Experts(asked)
    return kernel(x.double(), weights.double(), chosen, kernel.prepare(Source(tensors)))
