"""Checkpoints of ModelSlim: `quant_model_description.json` gives a type for each tensor's name.

A weight is (weight - weight_offset) * weight_scale; of "W8A8" the file has `deq_scale`, which is
`input_scale` times the weight's scale, as fp32 or as fp32's bits in int64. 4-bit weights of
"W4A8_DYNAMIC" lie two a byte along the outputs, those of "W4A4_DYNAMIC" one a byte.
Source: the description of the format's version 1 in msmodelslim's documentation, and its saver.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from inferplane.spec import QuantScheme

from .base import Read
from .layout import LaidOut, Layout
from .online import FP8, INT8, MXFP8
from .schema import Schema, read_schema, refuse

if TYPE_CHECKING:
    import torch

_WHERE = "quant_model_description.json"
_OFFSETS = ("weight_offset",)
_SIDE = ("quant_bias", "scale_bias", "input_scale", "deq_scale")
"""Tensors that are made of the others, or that say nothing new."""


class Config(Schema):
    description: dict[str, Any]


class ModelSlim(LaidOut):
    name: ClassVar[str] = "modelslim"

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.types = read_schema(Config, config.get("quantization_config")).description
        group = self.types.get("group_size", 0)
        if isinstance(group, bool) or not isinstance(group, int) or group < 0:
            raise refuse("group_size", group, "it must be a number of inputs", _WHERE)
        self.group = group
        self.known = {name: self._layout(name) for name in _TYPES}

    def _layout(self, kind: str) -> Layout:
        fields = dict(_TYPES[kind])
        packing = fields.pop("packing", "canonical")
        if kind == "W8A8":
            return Layout(
                scheme=QuantScheme.named(**fields),
                scale="deq_scale",
                input_scale="input_scale",
                optional=("quant_bias", "weight_scale"),
                zeros=("input_offset", *_OFFSETS),
            )
        if kind in _GROUPED and self.group:
            fields |= {"granularity": "group", "group": self.group}
        scheme = QuantScheme.named(**fields)
        return Layout(scheme=scheme, packing=packing, optional=_SIDE, zeros=_OFFSETS)

    def layout(self, module: str) -> Layout | None:
        field = f"{module}.weight"
        kind = self.types.get(field, "FLOAT")
        if kind == "FLOAT":
            return None
        if not isinstance(kind, str) or kind not in self.known:
            raise refuse(field, kind, f"known: FLOAT, {', '.join(self.known)}", _WHERE)
        return self.known[kind]

    def load(self, module: str, read: Read) -> dict[str, torch.Tensor]:
        found = self.layout(module)
        if found is not None and found.scale == "deq_scale":
            import torch

            def fp32(name: str) -> torch.Tensor:
                tensor = read(name)
                if name.endswith(".deq_scale") and tensor.dtype == torch.int64:
                    tensor = tensor.to(torch.int32).view(torch.float32)
                return tensor

            made = super().load(module, fp32)
            made["scale"] = made["scale"] / made["input_scale"]
            return made
        return super().load(module, read)

    def describe(self) -> str:
        cache = self.types.get("kv_cache_type") or self.types.get("kv_quant_type")
        kept = f"; its KV cache is meant as {cache}" if cache else ""
        return f"{self.name}, {self.types.get('model_quant_type', 'mixed')}{kept}"


def _fields(scheme: QuantScheme) -> dict[str, Any]:
    names = [name for name in QuantScheme.__dataclass_fields__ if name != "name"]
    return {name: getattr(scheme, name) for name in names}


_MXFP4 = {"weight": "fp4_e2m1", "granularity": "group", "group": 32, "scale": "ue8m0"}
_BY_32 = {
    "activation_granularity": "group",
    "activation_group": 32,
    "activation_scale": "ue8m0",
}
_TYPES: dict[str, dict[str, Any]] = {
    "W8A16": {"weight": "int8"},
    "W8A8": {
        "weight": "int8",
        "activation": "int8",
        "activation_granularity": "tensor",
        "dynamic": False,
    },
    "W8A8_DYNAMIC": _fields(INT8),
    "W4A8_DYNAMIC": {"weight": "int4", "activation": "int8", "packing": "rows"},
    "W4A4_DYNAMIC": {"weight": "int4", "activation": "int4", "packing": "loose"},
    "WFP8AFP8_DYNAMIC": _fields(FP8),
    "W8A8_MXFP8": _fields(MXFP8),
    "W4A8_MXFP": _MXFP4 | {"activation": "fp8_e4m3"} | _BY_32,
    "W4A4_MXFP4": _MXFP4 | {"activation": "fp4_e2m1"} | _BY_32,
}
_GROUPED = ("W8A16", "W8A8_DYNAMIC", "W4A8_DYNAMIC", "W4A4_DYNAMIC")
