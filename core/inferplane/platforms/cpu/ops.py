"""Element ops: few torch calls each, since at one token a call costs more than its work.

Legend: T tokens, C hidden, H query heads, K kv heads, D head size, P page.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from inferplane.spec import (
    ActivationRequest,
    AttentionInputRequest,
    EmbeddingRequest,
    KVWriteRequest,
    NormRequest,
    Packed,
    RotaryRequest,
    WeightSource,
)
from inferplane.spec.torch_types import torch_dtype


def rms_norm(request: NormRequest) -> Callable[..., torch.Tensor]:
    eps = request.eps

    def run(x: torch.Tensor, weight_C: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x, weight_C.shape, weight_C, eps)

    return run


def add_rms_norm(request: NormRequest) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    eps = request.eps

    def run(
        x_TC: torch.Tensor, residual_TC: torch.Tensor, weight_C: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        x_TC += residual_TC
        return F.rms_norm(x_TC, weight_C.shape, weight_C, eps), x_TC

    return run


_KINDS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": lambda x: F.silu(x),
    "gelu": lambda x: F.gelu(x),
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "swigluoai": lambda x: torch.sigmoid(x * 1.702).mul_(x),  # the factor as gpt-oss published it
}


def gate(kind: str, limit: float, size: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """[T, 2N] -> [T, N], N the size. limit: see `ActivationRequest`."""
    act = _KINDS[kind]

    def run(gate_up_T2N: torch.Tensor) -> torch.Tensor:
        gate_TN, up_TN = gate_up_T2N[:, :size], gate_up_T2N[:, size:]
        if limit:
            gate_TN, up_TN = gate_TN.clamp(max=limit), up_TN.clamp(-limit, limit)
        return act(gate_TN).mul_(up_TN + 1 if kind == "swigluoai" else up_TN)

    return run


def gated(request: ActivationRequest) -> Callable[[torch.Tensor], torch.Tensor]:
    return gate(request.kind, request.limit, request.size)


class Embedding:
    def __init__(self, request: EmbeddingRequest) -> None:
        self.run = F.embedding

    def prepare(self, source: WeightSource) -> Packed:
        weight = source.read("weight")
        return Packed(data=weight, final_bytes=weight.nbytes, tensors={"weight": weight})

    def __call__(self, ids_T: torch.Tensor, packed: Packed) -> torch.Tensor:
        return self.run(ids_T, packed.data)


def wide_state(
    table: torch.Tensor, positions_T: torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """(cos, sin) [T, 1, D]: x * cos + roll(x, D/2) * sin turns both halves at once."""
    cos, sin = table.index_select(0, positions_T).unsqueeze(1).chunk(2, dim=-1)
    return torch.cat([cos, cos], -1).to(dtype), torch.cat([-sin, sin], -1).to(dtype)


def turn(x: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    cos, sin = state
    return torch.addcmul(x * cos, torch.roll(x, x.shape[-1] // 2, -1), sin)


class Rotary:
    def __init__(self, request: RotaryRequest) -> None:
        self.dtype = torch_dtype(request.dtype)

    def step(
        self, table: torch.Tensor, positions_T: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return wide_state(table, positions_T, self.dtype)

    def __call__(
        self,
        q_THD: torch.Tensor,
        k_TKD: torch.Tensor,
        state: tuple[torch.Tensor, torch.Tensor],
    ) -> None:
        q_THD.copy_(turn(q_THD, state))
        k_TKD.copy_(turn(k_TKD, state))


def kv_write(request: KVWriteRequest) -> Callable[..., None]:
    latent = request.layout == "latent"

    def run(
        k_TKD: torch.Tensor,
        v_TKD: torch.Tensor,
        cache: torch.Tensor,
        slots_T: torch.Tensor,
        kv_scales: torch.Tensor | None = None,
    ) -> None:
        new = k_TKD[:, 0] if latent else torch.stack((k_TKD, v_TKD), 1)
        if kv_scales is not None:
            new = new.float() / (kv_scales[0] if latent else kv_scales[:, None, None])
        _write(new, cache, slots_T)

    return run


def _write(new: torch.Tensor, cache: torch.Tensor, slots_T: torch.Tensor) -> None:
    """new: [T, ..] as a slot of the cache. Host tensors, so looking for padding (-1) costs no
    synchronisation."""
    if int(slots_T.min()) < 0:
        valid = slots_T >= 0
        new, slots_T = new[valid], slots_T[valid]
    if cache.dtype != new.dtype:
        new = new.to(cache.dtype)
    if cache.itemsize == 1:  # as bytes: not all types of 8 bits can be indexed
        new, cache = new.view(torch.uint8), cache.view(torch.uint8)
    cache.view(-1, *cache.shape[2:]).index_copy_(0, slots_T, new)


class AttentionInput:
    """q/k norm, rotary and KV write over q and k together: a third of the calls."""

    def __init__(self, request: AttentionInputRequest) -> None:
        rotary = request.rotary
        self.heads, self.kv_heads, self.head_dim = rotary.heads, rotary.kv_heads, rotary.head_dim
        self.eps = request.qk_norm.eps if request.qk_norm else None
        self.dtype = torch_dtype(rotary.dtype)

    def prepare(self, source: WeightSource) -> Packed:
        """One weight row a head: the queries' norm, then the keys'."""
        if self.eps is None:
            return Packed(data=None, final_bytes=0)
        q_D = source.child("q_norm").read("weight")
        k_D = source.child("k_norm").read("weight")
        weight = torch.cat([q_D.expand(self.heads, -1), k_D.expand(self.kv_heads, -1)])
        return Packed(data=weight, final_bytes=weight.nbytes)

    def step(
        self, table: torch.Tensor, positions_T: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return wide_state(table, positions_T, self.dtype)

    def __call__(
        self,
        qkv_TX: torch.Tensor,
        cache: torch.Tensor,
        slots_T: torch.Tensor,
        state: tuple[torch.Tensor, torch.Tensor],
        packed: Packed,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        heads, kv_heads = self.heads, self.kv_heads
        x_TAD = qkv_TX.view(-1, heads + 2 * kv_heads, self.head_dim)
        turned_TAD = x_TAD[:, : heads + kv_heads]
        if packed.data is not None:
            turned_TAD = F.rms_norm(turned_TAD, (self.head_dim,), None, self.eps) * packed.data
        turned_TAD = turn(turned_TAD, state)
        x_TAD[:, heads : heads + kv_heads] = turned_TAD[:, heads:]
        kv_T2KD = x_TAD[:, heads:].unflatten(1, (2, kv_heads))
        _write(kv_T2KD, cache, slots_T)
        return turned_TAD[:, :heads], kv_T2KD[:, 0], kv_T2KD[:, 1]
