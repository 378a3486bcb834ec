"""Quantization while loading: layer by layer, out of a checkpoint that is not quantized."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import gcd
from typing import TYPE_CHECKING

from inferplane.plugins.site import WeightNeed
from inferplane.spec import UNQUANTIZED, QuantScheme, WeightPart

from .checkpoint import Checkpoint
from .quantize import quantize
from .store import Modules, module_of
from .views import cut, view

if TYPE_CHECKING:
    import torch

GROUPS = (128, 64, 32)
"""Inputs a group, best first; the first one that divides a layer's inputs is taken."""

FP8 = QuantScheme.named(
    weight="fp8_e4m3", granularity="channel", activation="fp8_e4m3", activation_granularity="token"
)
INT8 = QuantScheme.named(
    weight="int8", granularity="channel", activation="int8", activation_granularity="token"
)
LAST = QuantScheme.named(weight="int8", granularity="channel")
"""Of the last projection: the most exact 8 bits. One new token reads it whole: it may be half of
what a small model reads."""
MXFP8 = QuantScheme.named(
    weight="fp8_e4m3",
    granularity="group",
    group=32,
    scale="ue8m0",
    activation="fp8_e4m3",
    activation_granularity="group",
    activation_group=32,
    activation_scale="ue8m0",
)
NAMES = {
    "fp8": "fp8 weights by channel, inputs by token",
    "int8": "int8 weights by channel, inputs by token; the last projection: weights alone",
    "int4": "int4 weights by groups of 128 (64, 32) inputs; the last projection: int8 weights",
    "mxfp8": "fp8 weights and inputs by groups of 32 with exponents as scales",
    "int4fp8_moe": "experts: int4 weights by groups, fp8 inputs by token; nothing else",
}


class Online:
    """name: a key of `NAMES`. Modules whose sizes do not fit stay as they are. experts: a number
    that divides the inputs of all experts' projections, which have one scheme; 0 for no experts."""

    def __init__(self, name: str, experts: int = 0) -> None:
        self.name, self.experts = name, experts

    def scheme(self, module: str, inputs: int, plain: bool) -> QuantScheme:
        """plain: the model asks for no quantization (routers, the last projection). Integers are
        taken for the last projection all the same."""
        if _is_last(module):
            return LAST if self.name in ("int8", "int4") else UNQUANTIZED
        if plain:
            return UNQUANTIZED
        if "experts." in module:
            inputs = gcd(inputs, self.experts)
        if self.name == "int4fp8_moe":
            return self._int4(inputs, "fp8_e4m3") if ".experts." in module else UNQUANTIZED
        if self.name == "int4":
            return self._int4(inputs, "")
        if self.name == "mxfp8":
            return UNQUANTIZED if inputs % 32 else MXFP8
        return FP8 if self.name == "fp8" else INT8

    def _int4(self, inputs: int, activation: str) -> QuantScheme:
        group = next((g for g in GROUPS if inputs % g == 0), 0)
        if not group:
            return UNQUANTIZED
        return QuantScheme.named(
            weight="int4", granularity="group", group=group, scale="bf16", activation=activation
        )

    def describe(self) -> str:
        return f"{self.name} while loading: {NAMES[self.name]}"


class OnlineStore:
    """Quantizes a module when its first tensor is read; nothing is held twice."""

    def __init__(self, checkpoint: Checkpoint, online: Online) -> None:
        self.checkpoint, self.online = checkpoint, online
        self._modules = Modules()

    def read(self, part: WeightPart) -> torch.Tensor:
        if not part.dtype:
            return self.checkpoint.read(part)
        module, _ = module_of(part)
        return cut(self._modules.take(part, lambda: self._quantized(module, part)), part)

    def _quantized(self, module: str, part: WeightPart) -> dict[str, torch.Tensor]:
        weight = self.checkpoint.tensor(self.checkpoint.name(f"{module}.weight"))
        if "transpose" in part.view:
            weight = view(weight, ("transpose",))
        scheme = self.online.scheme(module, weight.shape[-1], False)
        return quantize(scheme, weight)

    def close(self) -> None:
        self.checkpoint.close()

    def check(self, needs: Iterable[WeightNeed], tied: bool, ignored: tuple[str, ...] = ()) -> None:
        """As `Checkpoint.check`: what is quantized here is dense in the files."""
        dense: list[WeightNeed] = []
        for need in needs:
            if need.name.rpartition(".")[2] in ("weight", "bias") or not need.parts[0].dtype:
                parts = tuple(self._dense(part) for part in need.parts)
                dense.append(WeightNeed(need.name, parts, need.dtype, need.tied_to))
        self.checkpoint.check(dense, tied, ignored=ignored)

    def _dense(self, part: WeightPart) -> WeightPart:
        """With the shape that the file has."""
        module, _ = module_of(part)
        if not part.dtype:
            return part
        shape = self.checkpoint.shapes.get(self.checkpoint.name(f"{module}.weight"), ())
        inputs = shape[-2 if "transpose" in part.view else -1] if len(shape) > 1 else 1
        packed = self.online.scheme(module, inputs, False).packed
        *front, columns = part.full_shape
        full = (*front, columns * packed)
        if "transpose" in part.view:
            full = (*front[:-1], columns * packed, front[-1])
        return replace(part, stored=full)


def _is_last(module: str) -> bool:
    """Whether it is the last projection, or the embedding that it is tied to."""
    return module.rpartition(".")[2] in ("lm_head", "embed_tokens")
