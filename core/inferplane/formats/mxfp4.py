"""Experts in mxfp4 as gpt-oss has them: stacked, in blocks of 32 with exponents as scales.

`experts.gate_up_proj_blocks` uint8 [X, 2I, C/32, 16] (two numbers a byte, the first low) and
`experts.gate_up_proj_scales` uint8 [X, 2I, C/32]; all else is not quantized.
Source: the model's card, and transformers' Mxfp4Config.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from inferplane.spec import QuantScheme

from .layout import LaidOut, Layout
from .matching import Names
from .schema import Schema, read_schema

MXFP4 = QuantScheme.named(weight="fp4_e2m1", granularity="group", group=32, scale="ue8m0")
_STACKED = (".experts.gate_up_proj", ".experts.down_proj")


class Config(Schema):
    modules_to_not_convert: list[str] | None = None


class Mxfp4(LaidOut):
    name: ClassVar[str] = "mxfp4"

    def __init__(self, config: Mapping[str, Any]) -> None:
        found = read_schema(Config, config.get("quantization_config"))
        self.plain = Names(found.modules_to_not_convert or ())
        self.made = Layout(scheme=MXFP4, weight="_blocks", scale="_scales", packing="blocks")

    def layout(self, module: str) -> Layout | None:
        quantized = module.endswith(_STACKED) and module not in self.plain
        return self.made if quantized else None
