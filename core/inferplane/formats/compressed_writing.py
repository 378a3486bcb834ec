"""Canonical tensors -> compressed-tensors: what `inferplane quantize` writes.

Legend: N outputs, K inputs, G groups. The layout is `compressed_schemes`', the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from inferplane.spec import UNQUANTIZED, QuantScheme
from inferplane.spec.quant import FOUR_BIT

from .mxfp4 import MXFP4
from .online import FP8, GROUPS, INT8, MXFP8

if TYPE_CHECKING:
    import torch

FP8_BLOCKS = QuantScheme.named(
    weight="fp8_e4m3",
    granularity="block",
    block=(128, 128),
    activation="fp8_e4m3",
    activation_granularity="group",
    activation_group=128,
)
_FIXED = {"int8": INT8, "fp8": FP8, "fp8-block": FP8_BLOCKS, "mxfp8": MXFP8, "mxfp4": MXFP4}
NAMES = {
    "int8": "int8 weights by output, inputs by token",
    "int4": "int4 weights by groups of 128 (64, 32) inputs",
    "w4a8": "int4 weights by groups of 128 (64, 32) inputs, int8 inputs by token",
    "fp8": "fp8 weights by output, inputs by token",
    "fp8-block": "fp8 weights by blocks of 128x128, inputs by groups of 128",
    "mxfp8": "fp8 weights and inputs by groups of 32 with exponents as scales",
    "mxfp4": "fp4 weights by groups of 32 with exponents as scales",
}


def scheme_for(name: str, inputs: int) -> QuantScheme:
    """Of a weight with so many inputs; UNQUANTIZED where they do not fill groups. name: a key of
    `NAMES`."""
    if name in _FIXED:
        scheme = _FIXED[name]
        fits = inputs % scheme.group == 0 if scheme.granularity == "group" else True
        return scheme if fits else UNQUANTIZED
    group = next((size for size in GROUPS if inputs % size == 0), 0)
    if not group:
        return UNQUANTIZED
    return QuantScheme.named(
        weight="int4",
        granularity="group",
        group=group,
        scale="bf16",
        activation="int8" if name == "w4a8" else "",
    )


def format_of(scheme: QuantScheme) -> str:
    """The storage's name in the file."""
    if scheme.scale == "ue8m0":
        return "mxfp4-pack-quantized" if scheme.weight == "fp4_e2m1" else "mxfp8-quantized"
    if scheme.weight.startswith("fp8"):
        return "float-quantized"
    return "int-quantized" if scheme.activation else "pack-quantized"


def group_of(scheme: QuantScheme, targets: list[str]) -> dict[str, Any]:
    """An entry of `config_groups`."""
    shared: dict[str, Any] = {"strategy": scheme.granularity}
    if scheme.granularity == "group":
        shared["group_size"] = scheme.group
    if scheme.granularity == "block":
        shared["block_structure"] = list(scheme.block)
    if scheme.scale == "ue8m0":
        shared["scale_dtype"] = "torch.uint8"
    inputs = None
    if scheme.activation:
        inputs = _args(scheme.activation, {"strategy": scheme.activation_granularity}, True)
        if scheme.activation_granularity == "group":
            inputs["group_size"] = scheme.activation_group
        if scheme.activation_scale == "ue8m0":
            inputs["scale_dtype"] = "torch.uint8"
    return {
        "targets": targets,
        "weights": _args(scheme.weight, shared, False),
        "input_activations": inputs,
        "output_activations": None,
        "format": format_of(scheme),
    }


def _args(dtype: str, shared: dict[str, Any], dynamic: bool) -> dict[str, Any]:
    return {
        "num_bits": 4 if dtype in FOUR_BIT else 8,
        "type": "float" if dtype.startswith("fp") else "int",
        "symmetric": True,
        "dynamic": dynamic,
        **shared,
    }


def stored_tensors(
    scheme: QuantScheme, tensors: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """By the last part of their names. tensors: canonical, of one matrix."""
    import torch

    from inferplane.spec.quantized import unpack

    weight, scale = tensors["weight"], tensors["scale"]
    scale = scale[:, None] if scheme.granularity == "channel" else scale
    kind = format_of(scheme)
    if kind == "pack-quantized":
        shape = torch.tensor([weight.shape[0], weight.shape[1] * 2])
        packed = weight.contiguous().view(torch.int32)
        return {"weight_packed": packed, "weight_scale": scale, "weight_shape": shape}
    if kind == "mxfp4-pack-quantized":
        return {"weight_packed": weight, "weight_scale": scale}
    if scheme.weight == "int4":
        weight = unpack(weight).to(torch.int8) - 8
    return {"weight": weight, "weight_scale": scale}
