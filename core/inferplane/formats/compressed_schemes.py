"""Schemes as compressed-tensors writes them in JSON -> `QuantScheme` and `Layout`.

Source: the fields of `QuantizationScheme` and `QuantizationArgs`, and the tensors of its
compressors, in the package compressed-tensors 0.20.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveInt

from inferplane.spec import QuantScheme

from .layout import Layout
from .schema import CONFIG, Schema, Seen, refuse

Strategy = Literal["tensor", "channel", "group", "block", "token", "tensor_group", "attn_head"]
FLOAT_SCALES = {"BF16": "bf16", "F16": "fp16"}


class Args(Schema):
    num_bits: int = 8
    type: Literal["int", "float"] = "int"
    symmetric: bool = True
    group_size: int | None = None
    strategy: Strategy | None = None
    block_structure: list[PositiveInt] | str | None = None
    dynamic: bool | Literal["local"] = False
    actorder: bool | str | None = None
    scale_dtype: str | None = None

    @property
    def shared(self) -> str:
        """What shares a scale, also where the file leaves it to the group's size."""
        if self.strategy:
            return self.strategy
        if self.group_size is None:
            return "tensor"
        return "channel" if self.group_size == -1 else "group"

    @property
    def exponents(self) -> bool:
        return self.scale_dtype in ("torch.uint8", "uint8", "torch.float8_e8m0fnu")


class Group(Schema):
    targets: list[str]
    weights: Args | None = None
    input_activations: Args | None = None
    output_activations: Args | None = None
    format: str | None = None


class Config(Schema):
    config_groups: dict[str, Group] = Field(max_length=1000)
    format: str = "dense"
    ignore: list[str] | None = None
    quantization_status: str | None = None
    kv_cache_scheme: Args | None = None
    sparsity_config: dict[str, Any] | None = None
    transform_config: dict[str, Any] | None = None
    moe_sparsity_config: dict[str, Any] | None = None
    stored: dict[str, Seen] = Field(default_factory=dict)


def layout_of(name: str, group: Group, format: str, scale: str) -> Layout | None:
    """Of the modules of a group. format: of the file, where the group has none. scale: dtype name
    that scales of groups are kept in. Raises UserError for what is not known."""
    where = f"{CONFIG}.config_groups.{name}"
    kind = group.format or format
    weights, inputs = group.weights, group.input_activations
    if group.output_activations is not None:
        raise refuse("output_activations", "given", "quantized outputs are not supported", where)
    if weights is None:
        if inputs is not None:
            raise refuse("weights", None, "inputs alone cannot be quantized", where)
        return None
    if kind not in _FORMATS:
        raise refuse("format", kind, f"known: {', '.join(_FORMATS)}", where)
    scheme = QuantScheme.named(
        **_weight(weights, kind, scale, f"{where}.weights"),
        **_inputs(inputs, f"{where}.input_activations"),
    )
    names: dict[str, Any] = {"packing": "canonical"}
    packed = "pack-quantized" in kind
    if kind == "pack-quantized":
        names = {"packing": "words", "optional": ("weight_shape",)}
    elif weights.type == "int" and not packed:
        names = {"packing": "loose"}
    if packed:
        names["weight"] = "weight_packed"
    if scheme.zero_point:
        names["zero"] = "weight_zero_point"
    if scheme.global_scale:
        names |= {"global_scale": "weight_global_scale", "inverse": True}
    if scheme.activation and not scheme.dynamic:
        names["input_scale"] = "input_global_scale" if scheme.global_scale else "input_scale"
    if scheme.reordered:
        names["order"] = "weight_g_idx"
    elif weights.actorder:
        names["optional"] = (*names.get("optional", ()), "weight_g_idx")
    return Layout(scheme=scheme, zeros=("input_zero_point",), **names)


_FORMATS = (
    "pack-quantized",
    "int-quantized",
    "float-quantized",
    "naive-quantized",
    "nvfp4-pack-quantized",
    "mxfp4-pack-quantized",
    "mxfp8-quantized",
)
_WEIGHTS = {
    ("int", 4): "int4",
    ("int", 8): "int8",
    ("float", 8): "fp8_e4m3",
    ("float", 4): "fp4_e2m1",
}


def _weight(args: Args, kind: str, scale: str, where: str) -> dict[str, Any]:
    """Fields of a scheme."""
    if args.dynamic:
        raise refuse("dynamic", args.dynamic, "weights are quantized once", where)
    weight = _WEIGHTS.get((args.type, args.num_bits))
    if weight is None:
        raise refuse("num_bits", args.num_bits, f"known for {args.type}: 4 and 8", where)
    if (weight == "fp4_e2m1") != kind.startswith(("nvfp4", "mxfp4")):
        raise refuse("num_bits", args.num_bits, f"{args.type} does not fit {kind}", where)
    if args.type == "float" and kind == "pack-quantized":
        raise refuse("type", args.type, f"{kind} holds whole numbers", where)
    if not args.symmetric:
        if args.type == "float":
            raise refuse("symmetric", False, "floating-point weights have no zero point", where)
        weight = f"u{weight}"
    fields: dict[str, Any] = {"weight": weight, "zero_point": not args.symmetric}
    shared = args.shared
    if shared in ("tensor", "channel"):
        fields["granularity"] = shared
    elif shared in ("group", "tensor_group"):
        fields |= {"granularity": "group", "group": _group(args, where), "scale": scale}
    elif shared == "block":
        fields |= {"granularity": "block", "block": _block(args, where)}
    else:
        raise refuse("strategy", shared, "it is not one of weights", where)
    if shared == "tensor_group":
        fields |= {"scale": "fp8_e4m3", "global_scale": True}
    elif kind.startswith("mx") or args.exponents:
        fields["scale"] = "ue8m0"
    if str(args.actorder).lower() in ("group", "dynamic", "true"):
        if shared != "group":
            raise refuse("actorder", args.actorder, "only groups have an order", where)
        fields["reordered"] = True
    return fields


def _inputs(args: Args | None, where: str) -> dict[str, Any]:
    if args is None:
        return {}
    if not args.symmetric:
        raise refuse(
            "symmetric",
            False,
            "asymmetric activations are not supported; quantize with true",
            where,
        )
    activation = _WEIGHTS.get((args.type, args.num_bits))
    if activation is None:
        raise refuse("num_bits", args.num_bits, f"known for {args.type}: 4 and 8", where)
    shared = args.shared
    fields: dict[str, Any] = {"activation": activation, "dynamic": args.dynamic is True}
    if shared == "tensor_group":
        group = {"activation_granularity": "group", "activation_group": _group(args, where)}
        return fields | group | {"activation_scale": "fp8_e4m3", "dynamic": False}
    if not args.dynamic and shared != "tensor":
        raise refuse("strategy", shared, "static activations have one scale a tensor", where)
    if shared in ("tensor", "token"):
        return fields | {"activation_granularity": shared}
    if shared != "group":
        raise refuse("strategy", shared, "known for activations: tensor, token, group", where)
    fields |= {"activation_granularity": "group", "activation_group": _group(args, where)}
    return fields | ({"activation_scale": "ue8m0"} if args.exponents else {})


def _group(args: Args, where: str) -> int:
    if not args.group_size or args.group_size < 1:
        raise refuse("group_size", args.group_size, "a group has at least one input", where)
    return args.group_size


def _block(args: Args, where: str) -> tuple[int, int]:
    found = args.block_structure
    if isinstance(found, str):
        parts = found.split("x")
        found = [int(part) for part in parts if part.isdecimal() and int(part) > 0]
    if not found or len(found) != 2:
        raise refuse("block_structure", args.block_structure, "it must be [rows, columns]", where)
    return found[0], found[1]
