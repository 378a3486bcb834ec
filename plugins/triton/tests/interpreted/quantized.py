"""Drawn quantized weights in their canonical form, and the schemes that are tried.

Legend: X experts, N outputs, K inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from interpreter_platform import PROPS

from inferplane.spec import QuantScheme
from inferplane.spec.torch_types import torch_dtype

EIGHT_BITS = replace(
    PROPS,
    dtypes=PROPS.dtypes | {"int8", "fp8_e4m3"},
    capabilities=PROPS.capabilities | {"fp8_e4m3_gemm"},
)
BLOCK_SCALED = replace(EIGHT_BITS, capabilities=EIGHT_BITS.capabilities | {"fp4_block_gemm"})
FNUZ = replace(
    EIGHT_BITS,
    dtypes=PROPS.dtypes | {"int8", "fp8_e4m3fnuz"},
    capabilities=(PROPS.capabilities - {"fp8_e4m3_convert", "fp8_e4m3_gemm"})
    | {"fp8_e4m3fnuz_gemm"},
)


def group(weight: str, size: int, scale: str = "fp16", **more: Any) -> QuantScheme:
    return QuantScheme.named(weight=weight, granularity="group", group=size, scale=scale, **more)


def by(weight: str, granularity: Any, **more: Any) -> QuantScheme:
    return QuantScheme.named(weight=weight, granularity=granularity, **more)


CPU = torch.device("cpu")
_FP8 = {"activation": "fp8_e4m3"}
_GROUPS = {"activation_granularity": "group", "activation_group": 32}
_MX = {"activation_scale": "ue8m0", **_FP8, **_GROUPS}
WEIGHT_ONLY = (
    group("int4", 32),
    group("int4", 64, "bf16"),
    group("uint4", 32, zero_point=True),
    by("uint4", "channel", zero_point=True),
    by("int4", "channel"),
    by("int8", "channel", scale="bf16"),
    by("int8", "tensor"),
    group("int8", 64, "fp32"),
    group("uint8", 32, zero_point=True),
    by("fp8_e4m3", "channel"),
    by("fp8_e4m3", "tensor"),
    by("fp8_e4m3", "block", block=(16, 32)),
    group("fp4_e2m1", 32, "ue8m0"),
    group("fp4_e2m1", 16, "fp8_e4m3", global_scale=True),
    group("nf4", 64, "fp32"),
)
INPUTS_TOO = (
    by("int8", "channel", activation="int8"),
    by("int8", "channel", activation="int8", dynamic=False, activation_granularity="tensor"),
    group("int4", 32, activation="int8"),
    by("fp8_e4m3", "tensor", activation_granularity="tensor", dynamic=False, **_FP8),
    by("fp8_e4m3", "tensor", activation_granularity="tensor", **_FP8),
    by("fp8_e4m3", "channel", **_FP8),
    by("fp8_e4m3", "block", block=(16, 32), **_FP8, **_GROUPS),
    group("int4", 32, **_FP8),
    group("fp8_e4m3", 32, "ue8m0", **_MX),
    group("fp4_e2m1", 32, "ue8m0", **_MX),
)


def draw(scheme: QuantScheme, *shape: int, parts: int = 1, seed: int = 0) -> dict[str, Any]:
    """shape: [N, K], or [X, N, K]. Canonical tensors of one weight. parts: of a tensor's scales."""
    chance = torch.Generator().manual_seed(seed)
    *lead, rows, columns = shape

    def numbers(*size: int) -> torch.Tensor:
        return torch.rand(size, generator=chance) + 0.5

    stored = (*lead, rows, columns // scheme.packed)
    bits = torch.randint(0, 256, stored, generator=chance, dtype=torch.uint8)
    if scheme.weight == "fp8_e4m3":
        bits[(bits & 0x7F) == 0x7F] = 0x3A  # NaN
    found: dict[str, Any] = {
        "weight": bits if scheme.packed == 2 else bits.view(torch_dtype(scheme.weight))
    }
    size = {
        "tensor": (parts,),
        "channel": (rows,),
        "group": (rows, columns // max(scheme.group, 1)),
        "block": (-(-rows // max(scheme.block[0], 1)), -(-columns // max(scheme.block[1], 1))),
    }[scheme.granularity]
    if scheme.scale == "ue8m0":
        found["scale"] = torch.randint(
            118, 124, (*lead, *size), generator=chance, dtype=torch.uint8
        )
    else:
        found["scale"] = (numbers(*lead, *size) / 64).to(torch_dtype(scheme.scale))
    if scheme.zero_point:
        high = 16 if scheme.packed == 2 else 256
        found["zero"] = torch.randint(0, high, (*lead, *size), generator=chance, dtype=torch.uint8)
    if scheme.global_scale:
        found["global_scale"] = numbers(*lead, parts)
    if scheme.reordered:
        found["order"] = torch.randperm(columns, generator=chance).int()
    if scheme.activation and not scheme.dynamic:
        found["input_scale"] = numbers(*lead, parts) / 40
    return found


@dataclass
class Drawn:
    """A `WeightSource` over tensors in memory. rows: of each part of "weight"."""

    tensors: dict[str, torch.Tensor]
    rows: Sequence[int] = ()
    path: str = "here"
    tied_to: str = ""
    device: torch.device = CPU

    def names(self) -> list[str]:
        return list(self.tensors)

    def read(self, name: str, part: str | None = None) -> torch.Tensor:
        return self.tensors[name]

    def parts(self, name: str) -> list[Any]:
        rows = self.rows or [self.tensors[name].shape[0]]
        return [SimpleNamespace(shape=(count, *self.tensors[name].shape[1:])) for count in rows]
