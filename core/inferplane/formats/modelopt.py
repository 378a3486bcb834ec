"""Checkpoints of Model Optimizer: `quant_method: modelopt` in config.json, or hf_quant_config.json.

A weight of FP8 is `weight` [N, K] times `weight_scale`; one of NVFP4 is `weight` uint8 [N, K/2]
times `weight_scale` fp8 [N, K/16] times `weight_scale_2`; `input_scale` is one number, for NVFP4
the second scale of inputs. Source: the unified HF export of modelopt 0.47.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import PositiveInt

from inferplane.spec import QuantScheme

from .layout import LaidOut, Layout
from .matching import Names, class_of
from .online import FP8, MXFP8
from .schema import CONFIG, Schema, read_schema, refuse

_NVFP4: dict[str, Any] = {
    "weight": "fp4_e2m1",
    "granularity": "group",
    "scale": "fp8_e4m3",
    "global_scale": True,
}


class Algorithm(Schema):
    quant_algo: str | None = None
    group_size: PositiveInt | None = None
    pre_quant_scale: bool | None = None
    has_zero_point: bool | None = None


class Config(Algorithm):
    exclude_modules: list[str] | None = None
    ignore: list[str] | None = None
    quantized_layers: dict[str, Algorithm] | None = None
    kv_cache_quant_algo: str | None = None
    kv_cache_scheme: Any = None


class ModelOpt(LaidOut):
    """Names in its lists are wildcards, or owners of the modules that they mean."""

    name: ClassVar[str] = "modelopt"

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = found = read_schema(Config, config.get("quantization_config"))
        self.plain = Names((*(found.exclude_modules or ()), *(found.ignore or ())))
        self.layers: dict[str, Layout] = {}
        self.all: Layout | None = None
        if found.quant_algo == "MIXED_PRECISION":
            if not found.quantized_layers:
                raise refuse("quantized_layers", found.quantized_layers, "it must name the layers")
            for name, algorithm in found.quantized_layers.items():
                self.layers[name] = _layout(algorithm, f"{CONFIG}.quantized_layers.{name}")
        else:
            self.all = _layout(found, CONFIG)

    def layout(self, module: str) -> Layout | None:
        if module in self.plain:
            return None
        if self.layers:
            owners = (module.rsplit(".", count)[0] for count in range(module.count(".") + 1))
            return next((self.layers[name] for name in owners if name in self.layers), None)
        return self.all if class_of(module) == "Linear" else None

    def kv_scales(self, attention: str) -> tuple[str, str] | None:
        if not (self.config.kv_cache_quant_algo == "FP8" or self.config.kv_cache_scheme):
            return None
        return f"{attention}.k_proj.k_scale", f"{attention}.v_proj.v_scale"

    def describe(self) -> str:
        found = self.config
        cache = found.kv_cache_quant_algo or ("FP8" if found.kv_cache_scheme else None)
        kept = f"; its KV cache is meant as {cache}" if cache else ""
        return f"{self.name}, {found.quant_algo}{kept}"


def _layout(found: Algorithm, where: str) -> Layout:
    if found.pre_quant_scale:
        raise refuse("pre_quant_scale", True, "scales before layers are not supported", where)
    group = found.group_size or 16
    known = {
        "FP8": Layout(
            scheme=QuantScheme.named(
                weight="fp8_e4m3",
                granularity="tensor",
                activation="fp8_e4m3",
                activation_granularity="tensor",
                dynamic=False,
            ),
            input_scale="input_scale",
        ),
        "FP8_PER_CHANNEL_PER_TOKEN": Layout(scheme=FP8),
        "NVFP4": Layout(
            scheme=QuantScheme.named(
                **_NVFP4,
                group=group,
                activation="fp4_e2m1",
                activation_granularity="group",
                activation_group=group,
                activation_scale="fp8_e4m3",
                dynamic=False,
            ),
            global_scale="weight_scale_2",
            input_scale="input_scale",
        ),
        "W4A16_NVFP4": Layout(
            scheme=QuantScheme.named(**_NVFP4, group=group), global_scale="weight_scale_2"
        ),
        "MXFP8": Layout(scheme=MXFP8),
        "W8A16": Layout(scheme=QuantScheme.named(weight="int8", granularity="channel")),
    }
    if found.quant_algo not in known:
        raise refuse("quant_algo", found.quant_algo, f"known: {', '.join(known)}", where)
    return known[found.quant_algo]
