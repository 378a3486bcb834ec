"""Larger kernels in plain torch: what a vendor's fused block or layer would compute."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from inferplane.spec import AttentionSlot, Packed, Step, WeightSource


def norm(x: torch.Tensor, weight: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    return F.rms_norm(x, weight.shape, weight, eps)


def turn(x_TAD: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    cos, sin = state
    a, b = x_TAD.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def read(source: WeightSource, *names: str) -> dict[str, torch.Tensor]:
    return {name: source.child(name).read("weight") for name in names}


class MLP:
    """op "mlp.block"."""

    calls = 0

    def __init__(self, request: Any) -> None:
        pass

    def prepare(self, source: WeightSource) -> Packed:
        return Packed(data=read(source, "gate_up_proj", "down_proj"), final_bytes=0)

    def __call__(self, x_TC: torch.Tensor, packed: Packed) -> torch.Tensor:
        type(self).calls += 1
        gate, up = F.linear(x_TC, packed.data["gate_up_proj"]).chunk(2, dim=-1)
        return F.linear(F.silu(gate) * up, packed.data["down_proj"])


class Attention:
    """op "attention.block", with rotary states of its own."""

    calls = 0

    def __init__(self, request: Any) -> None:
        self.request = request.attention

    def prepare(self, source: WeightSource) -> Packed:
        names = "qkv_proj", "q_norm", "k_norm", "o_proj"
        return Packed(data=read(source, *names), final_bytes=0)

    def step(self, table: torch.Tensor, positions_T: torch.Tensor) -> Any:
        return table[positions_T].unsqueeze(1).chunk(2, dim=-1)

    def __call__(
        self, x_TC: torch.Tensor, step: Step, slot: AttentionSlot, packed: Packed
    ) -> torch.Tensor:
        type(self).calls += 1
        r, w, group = self.request, packed.data, step.groups[slot.group]
        qkv_TAD = F.linear(x_TC, w["qkv_proj"]).unflatten(-1, (-1, r.head_dim))
        q, k, v = qkv_TAD.split((r.heads, r.kv_heads, r.kv_heads), dim=1)
        q = turn(norm(q, w["q_norm"]), step.rotary[slot.rotary])
        k = turn(norm(k, w["k_norm"]), step.rotary[slot.rotary])
        flat = slot.cache.view(-1, *slot.cache.shape[2:])
        flat[group.slots, 0], flat[group.slots, 1] = k, v
        out = torch.empty_like(q)
        slot.kernel.run(q, k.contiguous(), v.contiguous(), slot.cache, group.plan, out)
        return F.linear(out.flatten(1), w["o_proj"])


class Layer:
    """op "layer": norms, `Attention` and `MLP`."""

    calls = 0

    def __init__(self, request: Any) -> None:
        block = next(part for part in request.parts if part.op == "attention.block")
        self.attention, self.mlp = Attention(block), MLP(None)
        self.step = self.attention.step

    def prepare(self, source: WeightSource) -> Packed:
        norms = read(source, "input_layernorm", "post_attention_layernorm")
        parts = self.attention.prepare(source), self.mlp.prepare(source)
        return Packed(data=(norms, *parts), final_bytes=0)

    def __call__(
        self,
        x_TC: torch.Tensor,
        residual_TC: torch.Tensor | None,
        step: Step,
        slot: AttentionSlot,
        packed: Packed,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        type(self).calls += 1
        norms, attention, mlp = packed.data
        residual_TC = x_TC if residual_TC is None else residual_TC + x_TC
        x_TC = norm(residual_TC, norms["input_layernorm"])
        residual_TC = residual_TC + self.attention(x_TC, step, slot, attention)
        x_TC = norm(residual_TC, norms["post_attention_layernorm"])
        return self.mlp(x_TC, mlp), residual_TC
