"""Element ops: one call each, so that a decode step is not made of calls.

Legend: T tokens, C hidden, H query heads, K kv heads, D head size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from inferplane.spec import (
    ActivationRequest,
    AttentionInputRequest,
    NormRequest,
    Packed,
    WeightSource,
)

from .library import library


def rms_norm(request: NormRequest) -> Callable[..., torch.Tensor]:
    call, eps, half = library().ip_norm, request.eps, request.dtype == "bf16"

    def run(x: torch.Tensor, weight_C: torch.Tensor) -> torch.Tensor:
        x = x.contiguous()
        y, size = torch.empty_like(x), x.shape[-1]
        rows = x.numel() // size
        call(x.data_ptr(), weight_C.data_ptr(), y.data_ptr(), rows, size, eps, half)
        return y

    return run


def add_rms_norm(request: NormRequest) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    call, eps, half = library().ip_add_norm, request.eps, request.dtype == "bf16"

    def run(
        x_TC: torch.Tensor, residual_TC: torch.Tensor, weight_C: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        x_TC, residual_TC = x_TC.contiguous(), residual_TC.contiguous()
        y_TC, (rows, size) = torch.empty_like(x_TC), x_TC.shape
        call(
            x_TC.data_ptr(),
            residual_TC.data_ptr(),
            weight_C.data_ptr(),
            y_TC.data_ptr(),
            rows,
            size,
            eps,
            half,
        )
        return y_TC, x_TC

    return run


def silu(request: ActivationRequest) -> Callable[[torch.Tensor], torch.Tensor]:
    call, size, half = library().ip_silu, request.size, request.dtype == "bf16"

    def run(gate_up_T2N: torch.Tensor) -> torch.Tensor:
        gate_up_T2N = gate_up_T2N.contiguous()
        tokens = gate_up_T2N.shape[0]
        y_TN = gate_up_T2N.new_empty((tokens, size))
        call(gate_up_T2N.data_ptr(), y_TN.data_ptr(), tokens, size, half)
        return y_TN

    return run


class AttentionInput:
    """q/k norm, rotary and KV write in one pass, in place."""

    def __init__(self, request: AttentionInputRequest) -> None:
        rotary = request.rotary
        self.heads, self.kv_heads, self.head_dim = rotary.heads, rotary.kv_heads, rotary.head_dim
        self.norm = request.qk_norm is not None
        self.eps = request.qk_norm.eps if request.qk_norm else 0.0
        self.half = rotary.dtype == "bf16"
        self.call = library().ip_attention_input

    def prepare(self, source: WeightSource) -> Packed:
        if not self.norm:
            return Packed(data=(None, None), final_bytes=0)
        tensors = {n: source.child(n).read("weight").contiguous() for n in ("q_norm", "k_norm")}
        data = tuple(tensor.data_ptr() for tensor in tensors.values())
        size = sum(tensor.nbytes for tensor in tensors.values())
        return Packed(data=data, final_bytes=size, tensors=tensors)

    def step(
        self, table: torch.Tensor, positions_T: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return table, positions_T

    def __call__(
        self,
        qkv_TX: torch.Tensor,
        cache: torch.Tensor,
        slots_T: torch.Tensor,
        state: Any,
        packed: Packed,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        heads, kv_heads, (table, positions_T) = self.heads, self.kv_heads, state
        qkv_TX = qkv_TX.contiguous()
        self.call(
            qkv_TX.data_ptr(),
            cache.data_ptr(),
            slots_T.data_ptr(),
            table.data_ptr(),
            positions_T.data_ptr(),
            *packed.data,
            qkv_TX.shape[0],
            heads,
            kv_heads,
            self.head_dim,
            self.eps,
            self.half,
        )
        x_TAD = qkv_TX.view(-1, heads + 2 * kv_heads, self.head_dim)
        q_THD, k_TKD, v_TKD = x_TAD.split_with_sizes((heads, kv_heads, kv_heads), 1)
        return q_THD, k_TKD, v_TKD
