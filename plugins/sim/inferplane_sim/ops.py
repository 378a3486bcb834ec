"""Element ops, each one piece of work. Arithmetic is in fp32, rounded once at the end.

Legend: T tokens, C hidden, H query heads, K kv heads, A = H + 2K, D head size, R rotary size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from inferplane.spec import (
    ActivationRequest,
    EmbeddingRequest,
    KVWriteRequest,
    NormRequest,
    Packed,
    RotaryRequest,
    WeightSource,
)

from .indices import refuse_wide
from .launch import common_board, launch, new, raw


def normed(x: torch.Tensor, weight: torch.Tensor, eps: float, offset: float) -> torch.Tensor:
    """fp32 RMS norm of a host tensor over its last axis."""
    wide = F.rms_norm(x.float(), (x.shape[-1],), None, eps)
    return wide * (weight.float() + offset)


def rms_norm(request: NormRequest) -> Callable[..., torch.Tensor]:
    eps, offset, name = request.eps, request.weight_offset, "sim.rms_norm"

    def run(x: torch.Tensor, weight_C: torch.Tensor) -> torch.Tensor:
        board = common_board(name, x, weight_C)
        y = new(board, name, x.shape, x.dtype)
        to, source, weight = y.raw, raw(x), raw(weight_C)
        launch(
            board,
            name,
            lambda: to.copy_(normed(source, weight, eps, offset)),
            (x, weight_C),
            (y,),
        )
        return y

    return run


def add_rms_norm(request: NormRequest) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """The sum is written to the residual."""
    eps, offset, name = request.eps, request.weight_offset, "sim.add_rms_norm"

    def run(
        x_TC: torch.Tensor, residual_TC: torch.Tensor, weight_C: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        board = common_board(name, x_TC, residual_TC, weight_C)
        y_TC = new(board, name, x_TC.shape, x_TC.dtype)
        to, x, residual, weight = y_TC.raw, raw(x_TC), raw(residual_TC), raw(weight_C)

        def work() -> None:
            residual.add_(x)
            to.copy_(normed(residual, weight, eps, offset))

        launch(board, name, work, (x_TC, residual_TC, weight_C), (y_TC, residual_TC))
        return y_TC, residual_TC

    return run


KINDS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
}


def gated(request: ActivationRequest) -> Callable[[torch.Tensor], torch.Tensor]:
    act, limit, name = KINDS[request.kind], request.limit, "sim.gated"

    def run(gate_up_T2N: torch.Tensor) -> torch.Tensor:
        board = common_board(name, gate_up_T2N)
        rows, both = gate_up_T2N.shape
        y_TN = new(board, name, (rows, both // 2), gate_up_T2N.dtype)
        to, source = y_TN.raw, raw(gate_up_T2N)

        def work() -> None:
            gate, up = source.float().chunk(2, dim=-1)
            if limit:
                gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
            to.copy_(act(gate) * up)

        launch(board, name, work, (gate_up_T2N,), (y_TN,))
        return y_TN

    return run


class Embedding:
    def __init__(self, request: EmbeddingRequest) -> None:
        self.scale = request.scale

    def prepare(self, source: WeightSource) -> Packed:
        weight = source.read("weight")
        return Packed(data=weight, final_bytes=weight.nbytes, tensors={"weight": weight})

    def __call__(self, ids_T: torch.Tensor, packed: Packed) -> torch.Tensor:
        name, weight, scale = "sim.embedding", packed.data, self.scale
        board = common_board(name, ids_T, weight)
        refuse_wide(name, ids_T, board.wide_index)
        x_TC = new(board, name, (ids_T.shape[0], weight.shape[1]), weight.dtype)
        to, ids, table = x_TC.raw, raw(ids_T), raw(weight)
        launch(board, name, lambda: to.copy_(table[ids].float().mul_(scale)), (ids_T,), (x_TC,))
        return x_TC


def turned(x_TAD: torch.Tensor, state_TR: torch.Tensor, interleaved: bool) -> torch.Tensor:
    """fp32 [T, A, R]: the leading R elements of each head, rotated. Host tensors."""
    size = state_TR.shape[-1]
    wide = x_TAD[..., :size].float()
    cos, sin = state_TR[:, None].chunk(2, dim=-1)
    if interleaved:
        first, second = wide[..., 0::2], wide[..., 1::2]
        pairs = torch.stack((first * cos - second * sin, second * cos + first * sin), dim=-1)
        return pairs.flatten(-2)
    first, second = wide.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def rotary_rows(table: torch.Tensor, positions_T: torch.Tensor) -> torch.Tensor:
    """fp32 [T, R] of the table, one row a token."""
    name = "sim.rotary_rows"
    board = common_board(name, table, positions_T)
    refuse_wide(name, positions_T, board.wide_index)
    rows = new(board, name, (positions_T.shape[0], table.shape[1]), table.dtype)
    to, source, at = rows.raw, raw(table), raw(positions_T)
    launch(board, name, lambda: torch.index_select(source, 0, at, out=to), (positions_T,), (rows,))
    return rows


class Rotary:
    def __init__(self, request: RotaryRequest) -> None:
        self.rotary_dim = request.rotary_dim
        self.interleaved = request.style == "interleaved"

    def step(self, table: torch.Tensor, positions_T: torch.Tensor) -> torch.Tensor:
        return rotary_rows(table, positions_T)

    def __call__(self, q_THD: torch.Tensor, k_TKD: torch.Tensor, state: torch.Tensor) -> None:
        name, interleaved = "sim.rotary", self.interleaved
        board = common_board(name, q_THD, k_TKD, state)
        q, k, rows = raw(q_THD), raw(k_TKD), raw(state)
        size = rows.shape[1]

        def work() -> None:
            q[..., :size] = turned(q, rows, interleaved)
            k[..., :size] = turned(k, rows, interleaved)

        launch(board, name, work, (q_THD, k_TKD, state), (q_THD, k_TKD))


def write_pages(
    k_TKD: torch.Tensor, v_TKD: torch.Tensor, cache: torch.Tensor, slots_T: torch.Tensor
) -> None:
    """Host tensors, standard layout. A slot below 0 is padding."""
    flat = cache.view(-1, *cache.shape[2:])
    kept = (slots_T >= 0).nonzero()[:, 0]
    slots = slots_T[kept]
    flat[slots, 0] = k_TKD[kept]
    flat[slots, 1] = v_TKD[kept]


def kv_write(request: KVWriteRequest) -> Callable[..., None]:
    name = "sim.kv_write"

    def run(
        k_TKD: torch.Tensor, v_TKD: torch.Tensor, cache: torch.Tensor, slots_T: torch.Tensor
    ) -> None:
        board = common_board(name, k_TKD, v_TKD, cache, slots_T)
        refuse_wide(name, slots_T, board.wide_index)
        k, v, pages, slots = raw(k_TKD), raw(v_TKD), raw(cache), raw(slots_T)
        launch(
            board,
            name,
            lambda: write_pages(k, v, pages, slots),
            (k_TKD, v_TKD, slots_T),
            (),
            partly=(cache,),
        )

    return run
