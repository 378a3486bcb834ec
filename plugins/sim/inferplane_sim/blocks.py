"""q/k norm, rotary and KV write as one piece of work. Legend as in `ops.py`."""

from __future__ import annotations

import torch

from inferplane.spec import AttentionInputRequest, Packed, WeightSource

from .indices import refuse_wide
from .launch import common_board, launch, raw
from .ops import normed, rotary_rows, turned, write_pages
from .tensor import SimTensor, view_of


class AttentionInput:
    """Writes the turned queries and keys in place, and the cache."""

    def __init__(self, request: AttentionInputRequest) -> None:
        rotary = request.rotary
        self.heads, self.kv_heads, self.head_dim = rotary.heads, rotary.kv_heads, rotary.head_dim
        self.interleaved = rotary.style == "interleaved"
        self.norm = request.qk_norm

    def prepare(self, source: WeightSource) -> Packed:
        if self.norm is None:
            return Packed(data=(), final_bytes=0)
        weights = {name: source.child(name).read("weight") for name in ("q_norm", "k_norm")}
        size = sum(weight.nbytes for weight in weights.values())
        return Packed(data=tuple(weights.values()), final_bytes=size, tensors=weights)

    def step(self, table: torch.Tensor, positions_T: torch.Tensor) -> torch.Tensor:
        return rotary_rows(table, positions_T)

    def __call__(
        self,
        qkv_TX: torch.Tensor,
        cache: torch.Tensor,
        slots_T: torch.Tensor,
        state: torch.Tensor,
        packed: Packed,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        name = "sim.attention_input"
        board = common_board(name, qkv_TX, cache, slots_T, state, *packed.data)
        refuse_wide(name, slots_T, board.wide_index)
        assert isinstance(qkv_TX, SimTensor)
        x_TAD = qkv_TX.raw.view(qkv_TX.shape[0], -1, self.head_dim)
        q, k, v = x_TAD.split((self.heads, self.kv_heads, self.kv_heads), dim=1)
        weights = [raw(weight) for weight in packed.data]
        pages, slots, rows = raw(cache), raw(slots_T), raw(state)

        def work() -> None:
            if weights and self.norm is not None:
                eps, offset = self.norm.eps, self.norm.weight_offset
                q.copy_(normed(q, weights[0], eps, offset))
                k.copy_(normed(k, weights[1], eps, offset))
            size = rows.shape[1]
            q[..., :size] = turned(q, rows, self.interleaved)
            k[..., :size] = turned(k, rows, self.interleaved)
            write_pages(k, v, pages, slots)

        reads = (qkv_TX, slots_T, state, *packed.data)
        launch(board, name, work, reads, (qkv_TX,), partly=(cache,))
        return view_of(qkv_TX, q), view_of(qkv_TX, k), view_of(qkv_TX, v)
