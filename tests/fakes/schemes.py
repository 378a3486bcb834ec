"""Quantization schemes, random canonical tensors of them, and a source that gives tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from inferplane.spec import QuantScheme, WeightPart
from inferplane.spec.torch_types import torch_dtype

_named = QuantScheme.named
_GROUP = {"granularity": "group"}

SCHEMES = (
    _named(weight="int8"),
    _named(weight="int8", granularity="tensor"),
    _named(weight="int8", **_GROUP, group=64, scale="bf16"),
    _named(weight="int8", **_GROUP, group=32, zero_point=True),
    _named(weight="uint8"),
    _named(weight="uint8", **_GROUP, group=32, zero_point=True, scale="fp16"),
    _named(weight="int8", activation="int8"),
    _named(weight="int8", activation="int8", reordered=True),
    _named(weight="int8", granularity="tensor", activation="int8", dynamic=False),
    _named(weight="int8", activation="int8", activation_granularity="tensor"),
    _named(weight="int4"),
    _named(weight="int4", **_GROUP, group=32, scale="fp16"),
    _named(weight="int4", **_GROUP, group=128, scale="bf16"),
    _named(weight="uint4", **_GROUP, group=64, zero_point=True),
    _named(weight="uint4", **_GROUP, group=32, zero_point=True, reordered=True, scale="fp16"),
    _named(weight="int4", **_GROUP, group=128, activation="int8"),
    _named(weight="int4", activation="int4"),
    _named(weight="nf4", **_GROUP, group=64),
    _named(weight="fp8_e4m3"),
    _named(weight="fp8_e4m3", granularity="tensor", activation="fp8_e4m3", dynamic=False),
    _named(weight="fp8_e5m2", activation="fp8_e5m2"),
    _named(weight="fp8_e4m3fnuz", activation="fp8_e4m3fnuz", activation_granularity="tensor"),
    _named(
        weight="fp8_e4m3",
        granularity="block",
        block=(128, 128),
        activation="fp8_e4m3",
        activation_granularity="group",
        activation_group=128,
    ),
    _named(
        weight="fp8_e4m3",
        **_GROUP,
        group=32,
        scale="ue8m0",
        activation="fp8_e4m3",
        activation_granularity="group",
        activation_group=32,
        activation_scale="ue8m0",
    ),
    _named(weight="fp4_e2m1", **_GROUP, group=32, scale="ue8m0"),
    _named(
        weight="fp4_e2m1",
        **_GROUP,
        group=16,
        scale="fp8_e4m3",
        global_scale=True,
        activation="fp4_e2m1",
        activation_granularity="group",
        activation_group=16,
    ),
)
"""One of every kind that a checkpoint may have."""


class Source:
    """Gives the tensors, and the rows of the parts that they are fused of."""

    path = "here"

    def __init__(
        self, tensors: dict[str, torch.Tensor], parts: Sequence[int] = (), tied_to: str = ""
    ) -> None:
        self.tensors, self.rows, self.tied_to = tensors, parts, tied_to

    def names(self) -> list[str]:
        return list(self.tensors)

    def read(self, name: str, part: str | None = None) -> torch.Tensor:
        return self.tensors[name]

    def parts(self, name: str) -> list[WeightPart]:
        return [
            WeightPart(name=str(i), key="", full_shape=(n,), offset=(0,), shape=(n,))
            for i, n in enumerate(self.rows)
        ]


def drawn(
    scheme: QuantScheme, parts: Sequence[int], inputs: int, seed: int, experts: int = 0
) -> dict[str, torch.Tensor]:
    """Random canonical tensors whose weights are below 1 in size. parts: rows of each part."""
    generator = torch.Generator().manual_seed(seed)
    lead, rows = (experts,) * bool(experts), sum(parts)

    def whole(low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=generator)

    shape = (*lead, rows, inputs // scheme.packed)
    if not scheme.quantized:
        return {"weight": (torch.rand(shape, generator=generator) - 0.5).bfloat16()}
    if scheme.storage == "int8":
        weight = whole(-128, 128, *shape).to(torch.int8)
    elif scheme.storage == "uint8":
        weight = whole(0, 256, *shape).to(torch.uint8)
    else:
        weight = torch.randn(shape, generator=generator).to(torch_dtype(scheme.weight))
    scales = {
        "tensor": (len(parts),),
        "channel": (rows,),
        "group": (rows, -(-inputs // (scheme.group or 1))),
        "block": (-(-rows // (scheme.block[0] or 1)), -(-inputs // (scheme.block[1] or 1))),
    }[scheme.granularity]
    scale = (1 + torch.rand(*lead, *scales, generator=generator)) / 256
    if scheme.scale == "ue8m0":
        scale = whole(118, 123, *lead, *scales).to(torch.uint8)
    else:
        scale = scale.to(torch_dtype(scheme.scale))
    tensors = {"weight": weight, "scale": scale}
    if scheme.zero_point:
        tensors["zero"] = whole(0, 256 >> 4 * (scheme.packed - 1), *lead, *scales).to(torch.uint8)
    if scheme.global_scale:
        tensors["global_scale"] = torch.rand(*lead, len(parts), generator=generator) + 1
    if scheme.reordered:
        orders = [torch.randperm(inputs, generator=generator) for _ in range(experts or 1)]
        tensors["order"] = torch.stack(orders).int().reshape(*lead, inputs)
    if scheme.activation and not scheme.dynamic:
        tensors["input_scale"] = (torch.rand(*lead, len(parts), generator=generator) + 1) / 50
    return tensors
