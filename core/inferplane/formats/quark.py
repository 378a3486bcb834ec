"""Checkpoints of Quark: `quant_method: quark`.

8-bit weights lie as they are, with `weight_scale` (and `input_scale`); mxfp4 two numbers a byte,
the first low, with exponents; int4 and uint4 by groups are transposed, eight outputs an int32.
Source: the export of quark 0.13, and the fields of its `QConfig` and `QTensorConfig`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from inferplane.spec import QuantScheme

from .base import Read, Shape
from .layout import LaidOut, Layout, check_sizes
from .matching import Names, class_of, listed, matches, wildcard
from .schema import CONFIG, Schema, read_schema, refuse

if TYPE_CHECKING:
    import torch

_REORDERED = (0, 4, 1, 5, 2, 6, 3, 7)
"""Place of output i of eight in an int32, where `pack_method` is "reorder"."""


class Spec(Schema):
    """Of one tensor."""

    dtype: str
    qscheme: Literal["per_tensor", "per_channel", "per_group", "per_block"] | None = None
    group_size: PositiveInt | None = None
    block_size: list[PositiveInt] | None = Field(None, min_length=2, max_length=2)
    ch_axis: int | None = None
    is_dynamic: bool | None = None
    symmetric: bool | None = None
    scale_format: str | None = None
    zero_point_type: str | None = None


class Layer(Schema):
    weight: Spec | None = None
    input_tensors: Spec | None = None
    output_tensors: Any = None
    bias: Any = None


class Export(Schema):
    pack_method: Literal["reorder", "order"] = "reorder"
    weight_format: str = "real_quantized"
    kv_cache_group: list[str] | None = None


class Config(Schema):
    global_quant_config: Layer | None = None
    layer_quant_config: dict[str, Layer] | None = None
    layer_type_quant_config: dict[str, Layer] | None = None
    exclude: list[str] | None = None
    export: Export = Export()


class Quark(LaidOut):
    """`exclude` comes first, then layers by name or wildcard, by class, and all others."""

    name: ClassVar[str] = "quark"

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = found = read_schema(Config, config.get("quantization_config"))
        if found.export.weight_format != "real_quantized":
            raise refuse(
                "export.weight_format", found.export.weight_format, "known: 'real_quantized'"
            )
        exclude = found.exclude or ()
        self.exclude = Names(text for text in exclude if not text.startswith("re:"))
        self.patterns = [text for text in exclude if text.startswith("re:")]
        self.all = _layout(found.global_quant_config, f"{CONFIG}.global_quant_config")
        self.layers, self.classes = (
            {name: _layout(layer, f"{CONFIG}.{field}.{name}") for name, layer in given.items()}
            for field, given in (
                ("layer_quant_config", found.layer_quant_config or {}),
                ("layer_type_quant_config", found.layer_type_quant_config or {}),
            )
        )

    def layout(self, module: str) -> Layout | None:
        if module in self.exclude or any(self._means(module, text) for text in self.patterns):
            return None
        for text, layout in self.layers.items():
            if self._means(module, text):
                return layout
        kind = class_of(module)
        if kind in self.classes:
            return self.classes[kind]
        return self.all if kind == "Linear" else None

    def _means(self, module: str, text: str) -> bool:
        if text.startswith("re:"):
            return matches(module, text, f"{CONFIG}.exclude")
        return wildcard(module, text) or listed(module, (text,))

    def stored(self, module: str, shape: Shape) -> dict[str, Shape | None]:
        found, layout = super().stored(module, shape), self.layout(module)
        assert layout is not None
        if not _turned(layout):
            return found
        check_sizes(module, layout, shape)
        outputs, inputs = shape
        groups = inputs // layout.scheme.group
        found[f"{module}.weight"] = (inputs, outputs // 8)
        found[f"{module}.weight_scale"] = (groups, outputs)
        found[f"{module}.weight_zero_point"] = (
            (groups, outputs // 8) if layout.scheme.zero_point else None
        )
        return found

    def load(self, module: str, read: Read) -> dict[str, torch.Tensor]:
        layout = self.layout(module)
        if layout is None or not _turned(layout):
            return super().load(module, read)
        signed = layout.scheme.weight == "int4"

        def loose(name: str) -> torch.Tensor:
            tensor = read(name)
            if name.endswith("weight_scale"):
                return tensor.t().contiguous()
            return _eights(tensor, self.config.export.pack_method == "reorder", signed, name)

        return super().load(module, loose)


def _turned(layout: Layout) -> bool:
    """Whether the file has inputs first, and outputs in int32."""
    return layout.packing == "loose"


def _eights(tensor: torch.Tensor, reordered: bool, signed: bool, name: str) -> torch.Tensor:
    """int32 [K, N / 8] -> int8 [N, K]: -8 to 7, also for unsigned numbers, less 8."""
    import torch

    from .unpacking import expect

    expect(tensor, name, torch.int32)
    shifts = torch.arange(8, dtype=torch.int32) * 4
    codes = (tensor[..., None] >> shifts) & 15
    if reordered:
        codes = codes[..., list(_REORDERED)]
    codes = codes.flatten(-2).t()
    return (((codes ^ 8) if signed else codes) - 8).to(torch.int8).contiguous()


_WEIGHTS = {
    "fp8_e4m3": "fp8_e4m3",
    "fp8_e5m2": "fp8_e5m2",
    "int8": "int8",
    "int4": "int4",
    "uint4": "uint4",
    "fp4": "fp4_e2m1",
}


def _layout(layer: Layer | None, where: str) -> Layout | None:
    if layer is None or (layer.weight is None and layer.input_tensors is None):
        return None
    if layer.output_tensors or layer.bias:
        raise refuse("output_tensors", "given", "quantized outputs are not supported", where)
    if layer.weight is None:
        raise refuse("weight", None, "inputs alone cannot be quantized", where)
    inputs = layer.input_tensors
    scheme = QuantScheme.named(
        **_weight(layer.weight, f"{where}.weight"),
        **_inputs(inputs, f"{where}.input_tensors"),
    )
    static = bool(scheme.activation) and not scheme.dynamic
    fours = scheme.weight in ("int4", "uint4")
    return Layout(
        scheme=scheme,
        packing="loose" if fours else "canonical",
        zero="weight_zero_point" if scheme.zero_point else "",
        input_scale="input_scale" if static else "",
        zeros=("input_zero_point", *(() if scheme.zero_point else ("weight_zero_point",))),
    )


def _weight(spec: Spec, where: str) -> dict[str, Any]:
    weight = _dtype(spec, where)
    shared = spec.qscheme
    if spec.is_dynamic:
        raise refuse("is_dynamic", True, "weights are quantized once", where)
    fields: dict[str, Any] = {"weight": weight, "zero_point": weight == "uint4"}
    if spec.symmetric is False and weight != "uint4":
        raise refuse("symmetric", False, f"{spec.dtype} weights are symmetric here", where)
    if weight in ("int4", "uint4") and shared != "per_group":
        raise refuse("qscheme", shared, f"known for {spec.dtype}: per_group", where)
    if spec.zero_point_type == "float32" and weight == "uint4":
        raise refuse("zero_point_type", "float32", "zero points are whole numbers", where)
    if shared in ("per_tensor", "per_channel"):
        if shared == "per_channel" and spec.ch_axis not in (None, 0):
            raise refuse("ch_axis", spec.ch_axis, "weights have a scale an output (0)", where)
        return fields | {"granularity": shared.removeprefix("per_")}
    if shared == "per_block":
        if spec.block_size is None:
            raise refuse("block_size", None, "it must be [rows, columns]", where)
        return fields | {"granularity": "block", "block": tuple(spec.block_size)}
    return fields | {
        "granularity": "group",
        "group": _group(spec, where),
        "scale": "ue8m0" if spec.scale_format == "e8m0" else "fp32",
    }


def _inputs(spec: Spec | None, where: str) -> dict[str, Any]:
    if spec is None:
        return {}
    if spec.symmetric is False or spec.dtype.startswith("uint"):
        raise refuse("symmetric", spec.symmetric, "asymmetric activations are not supported", where)
    dynamic = bool(spec.is_dynamic)
    fields: dict[str, Any] = {"activation": _dtype(spec, where), "dynamic": dynamic}
    if spec.qscheme == "per_tensor":
        return fields | {"activation_granularity": "tensor"}
    if not dynamic:
        raise refuse("qscheme", spec.qscheme, "static activations have one scale a tensor", where)
    if spec.qscheme == "per_channel":  # one scale a token: the axis before the inputs
        return fields | {"activation_granularity": "token"}
    if spec.qscheme != "per_group":
        raise refuse("qscheme", spec.qscheme, "it is not one of activations", where)
    return fields | {
        "activation_granularity": "group",
        "activation_group": _group(spec, where),
        "activation_scale": "ue8m0" if spec.scale_format == "e8m0" else "fp32",
    }


def _dtype(spec: Spec, where: str) -> str:
    if spec.dtype not in _WEIGHTS:
        raise refuse("dtype", spec.dtype, f"known: {', '.join(_WEIGHTS)}", where)
    return _WEIGHTS[spec.dtype]


def _group(spec: Spec, where: str) -> int:
    if spec.group_size is None or spec.ch_axis not in (None, -1, 1):
        what = "group_size" if spec.group_size is None else "ch_axis"
        raise refuse(what, getattr(spec, what), "groups are of a number of inputs (-1)", where)
    return spec.group_size
