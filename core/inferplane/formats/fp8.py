"""Checkpoints of 8-bit floating-point weights: "fp8", "fbgemm_fp8" and "mxfp8".

Layouts: DeepSeek-V3 and Qwen3 (blocks of 128x128, `weight_scale_inv`); AutoFP8 (a scale a tensor,
`weight_scale`, `input_scale`); transformers' FineGrainedFP8Config and FbgemmFp8Config (a scale a
row); "mxfp8" of SGLang's documentation (groups of 32, exponents in `weight_scale_inv`). A weight is
its number times its scale, also where the name ends in "inv".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from inferplane.spec import QuantScheme

from .layout import LaidOut, Layout
from .matching import Names, class_of
from .online import FP8, MXFP8
from .schema import Schema, Seen, read_schema, refuse

_TYPES = {
    "e4m3": "fp8_e4m3",
    "e4m3fn": "fp8_e4m3",
    "e4m3fnuz": "fp8_e4m3fnuz",
    "e5m2": "fp8_e5m2",
}
_STORED = {"F8_E4M3": "e4m3", "F8_E4M3FNUZ": "e4m3fnuz", "F8_E5M2": "e5m2"}


class Config(Schema):
    activation_scheme: Literal["dynamic", "static"] = "dynamic"
    weight_block_size: list[PositiveInt] | None = Field(None, min_length=2, max_length=2)
    modules_to_not_convert: list[str] | None = None
    ignored_layers: list[str] | None = None
    fmt: Literal["e4m3", "e4m3fn", "e4m3fnuz", "e5m2"] | None = None
    expert_dtype: str = "fp8"
    stored: dict[str, Seen] = Field(default_factory=dict)


class Fp8(LaidOut):
    """The router, the embedding and the last projection are never quantized."""

    name: ClassVar[str] = "fp8"

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = found = read_schema(Config, config.get("quantization_config"))
        if found.expert_dtype != "fp8":
            raise refuse("expert_dtype", found.expert_dtype, "experts must be 'fp8' too")
        if found.activation_scheme == "static" and found.weight_block_size:
            raise refuse(
                "activation_scheme", "static", "inputs of weights in blocks must be 'dynamic'"
            )
        self.plain = Names((*(found.modules_to_not_convert or ()), *(found.ignored_layers or ())))
        self.made = self.make()

    def make(self) -> Layout:
        """Of every quantized module."""
        found, seen = self.config, self.config.stored
        weight = seen.get("weight")
        kind = found.fmt or _STORED.get(weight.dtype if weight else "", "e4m3")
        fields: dict[str, Any] = {"weight": _TYPES[kind], "activation": _TYPES[kind]}
        if found.weight_block_size:
            high, wide = found.weight_block_size
            scheme = QuantScheme.named(
                granularity="block",
                block=(high, wide),
                activation_granularity="group",
                activation_group=wide,
                **fields,
            )
            return Layout(scheme=scheme, scale="weight_scale_inv")
        scale = "weight_scale_inv" if "weight_scale_inv" in seen else "weight_scale"
        by_row = max(seen[scale].shape, default=1) > 1 if scale in seen else False
        static = found.activation_scheme == "static"
        scheme = QuantScheme.named(
            granularity="channel" if by_row else "tensor",
            activation_granularity="tensor" if static else "token",
            dynamic=not static,
            **fields,
        )
        given = "activation_scale" if "activation_scale" in seen else "input_scale"
        names: dict[str, Any] = {"input_scale": given} if static else {"optional": (given,)}
        return Layout(scheme=scheme, scale=scale, **names)

    def layout(self, module: str) -> Layout | None:
        plain = class_of(module) != "Linear" or module == "lm_head"
        return None if plain or module in self.plain else self.made


class FbgemmFp8(Fp8):
    """A scale a row, inputs by token. The published upper bound of input scales, which only tokens
    with outliers meet, is not applied."""

    name: ClassVar[str] = "fbgemm_fp8"

    def make(self) -> Layout:
        return Layout(scheme=FP8, optional=("input_scale_ub",))


class Mxfp8(Fp8):
    """Groups of 32, exponents as scales."""

    name: ClassVar[str] = "mxfp8"

    def make(self) -> Layout:
        block = self.config.weight_block_size
        if block not in (None, [1, 32]):
            raise refuse("weight_block_size", block, "mxfp8 has [1, 32]")
        if self.config.activation_scheme != "dynamic":
            raise refuse("activation_scheme", "static", "mxfp8 has 'dynamic'")
        return Layout(scheme=MXFP8, scale="weight_scale_inv")
