"""Gated activations: act(gate) * up, in fp32. Legend: T tokens, N half of the input's last axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import triton
import triton.language as tl

from inferplane.spec import ActivationRequest

from .defaults import activation as default
from .launch import launch
from .tuned_files import configured

KINDS = {"silu": 0, "gelu": 1, "gelu_tanh": 2, "swigluoai": 3}


@triton.jit
def tanh(x):
    """In terms of exp, which every back-end has. Its error is absolute, about 1e-7."""
    return 2.0 * tl.sigmoid(2.0 * x) - 1.0


@triton.jit
def activated(gate, up, limit, KIND: tl.constexpr, LIMIT: tl.constexpr):
    """act(gate) * up, of fp32. LIMIT: gate is clamped from above, up on both sides."""
    if LIMIT:
        gate = tl.minimum(gate, limit)
        up = tl.minimum(tl.maximum(up, -limit), limit)
    if KIND == 0:
        gate = gate * tl.sigmoid(gate)
    elif KIND == 1:
        gate = 0.5 * gate * (1.0 + tl.erf(gate * 0.7071067811865476))
    elif KIND == 2:
        inner = 0.7978845608028654 * (gate + 0.044715 * gate * gate * gate)
        gate = gate * tl.sigmoid(2.0 * inner)  # 0.5 (1 + tanh(inner))
    else:
        gate = gate * tl.sigmoid(1.702 * gate)
        up = up + 1.0
    return gate * up


@triton.jit
def gated_kernel(
    gate_up, y, x_t, limit, SIZE: tl.constexpr, KIND: tl.constexpr, LIMIT: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """One program computes BLOCK elements of one token."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = column < SIZE
    gate = tl.load(gate_up + token * x_t + column, mask=mask, other=0.0)
    dtype = gate.dtype
    gate = gate.to(tl.float32)
    up = tl.load(gate_up + token * x_t + SIZE + column, mask=mask, other=0.0).to(tl.float32)
    value = activated(gate, up, limit, KIND, LIMIT)
    tl.store(y + token * SIZE + column, value.to(dtype), mask=mask)


def gated(
    request: ActivationRequest, configuration: Mapping[str, int] | None = None
) -> Callable[[torch.Tensor], torch.Tensor]:
    """op "activation.gated": [T, 2N] -> [T, N]. limit clamps gate from above, up on both sides."""
    config = configuration or configured("activation.gated", request, "", default(request))
    block, size = config["block"], request.size

    def run(gate_up_T2N: torch.Tensor) -> torch.Tensor:
        tokens = gate_up_T2N.shape[0]
        y = torch.empty((tokens, size), dtype=gate_up_T2N.dtype, device=gate_up_T2N.device)
        launch(
            gated_kernel,
            (tokens, triton.cdiv(size, block)),
            gate_up_T2N,
            y,
            gate_up_T2N.stride(0),
            request.limit,
            SIZE=size,
            KIND=KINDS[request.kind],
            LIMIT=request.limit != 0.0,
            BLOCK=block,
            options={"num_warps": config["warps"]},
        )
        return y

    return run
