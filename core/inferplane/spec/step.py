"""One step as the model sees it. Legend: T tokens, B rows whose logits are wanted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from .attention import AttentionKernel


@dataclass(slots=True)
class GroupStep:
    """What a layer receives of its KV group for one step: the plan, and where to write [T]."""

    plan: Any
    slots: torch.Tensor


@dataclass(slots=True, kw_only=True)
class Step:
    """Tensors of one step, on the device.

    Set by the runner: tokens_T and positions_T int64, or int32 on devices without the
    capability `int64_index` (as all indices); groups, one entry a KV group.
    keep_layers: layers whose hidden states are wanted (after the layer, residual added).
    Set by the model: rotary, one state a distinct rotary embedding, before the first layer; kept,
    [T, C] for each of keep_layers, in the model's order; (optional) layer, the one that is being
    computed, for reports of a step that hangs.
    """

    tokens_T: torch.Tensor
    positions_T: torch.Tensor
    groups: list[GroupStep]
    keep_layers: frozenset[int] = frozenset()
    rotary: list[Any] = field(default_factory=list)
    kept: list[torch.Tensor] = field(default_factory=list)
    layer: int = -1


@dataclass(slots=True, kw_only=True)
class AttentionSlot:
    """Where one layer's attention is plugged in.

    kernel: chosen for the layer. group: its index in `Step.groups`. rotary: its index in
    `Step.rotary`. cache: the layer's KV cache, set by the engine before the first step.
    """

    kernel: AttentionKernel
    group: int
    rotary: int = 0
    cache: Any = None
