"""Quantization schemes that the kit asks for: one or more of each family, as data. No torch."""

from __future__ import annotations

from typing import Any

from inferplane.spec import QuantScheme

_INT8_TOKEN: dict[str, Any] = {"activation": "int8", "activation_granularity": "token"}
_FP8_TOKEN: dict[str, Any] = {"activation": "fp8_e4m3", "activation_granularity": "token"}
_MX: dict[str, Any] = {"granularity": "group", "group": 32, "scale": "ue8m0"}


def _mx(activation: str) -> dict[str, Any]:
    return {
        "activation": activation,
        "activation_granularity": "group",
        "activation_group": 32,
        "activation_scale": "ue8m0",
    }


def _group(weight: str, group: int, **more: Any) -> QuantScheme:
    return QuantScheme.named(weight=weight, granularity="group", group=group, **more)


WEIGHT_ONLY: dict[str, QuantScheme] = {
    "int8-channel": QuantScheme.named(weight="int8"),
    "int8-g32": _group("int8", 32, scale="fp16"),
    "uint8-g32-zero": _group("uint8", 32, scale="fp16", zero_point=True),
    "int4-channel": QuantScheme.named(weight="int4", scale="fp16"),
    "int4-g32": _group("int4", 32, scale="bf16"),
    "int4-g128": _group("int4", 128, scale="fp16"),
    "uint4-g32-zero": _group("uint4", 32, scale="fp16", zero_point=True),
    "uint4-channel-zero": QuantScheme.named(weight="uint4", scale="fp16", zero_point=True),
    "int4-g32-ordered": _group("int4", 32, scale="fp16", reordered=True),
    "uint4-g32-zero-ordered": _group("uint4", 32, scale="fp16", zero_point=True, reordered=True),
    "fp8-channel": QuantScheme.named(weight="fp8_e4m3"),
    "fp8-tensor": QuantScheme.named(weight="fp8_e4m3", granularity="tensor"),
    "e5m2-channel": QuantScheme.named(weight="fp8_e5m2"),
    "mxfp8-weights": QuantScheme.named(weight="fp8_e4m3", **_MX),
    "mxfp4-weights": QuantScheme.named(weight="fp4_e2m1", **_MX),
    "nvfp4-weights": _group("fp4_e2m1", 16, scale="fp8_e4m3", global_scale=True),
    "nf4-g64": _group("nf4", 64),
}
"""Inputs stay as they are."""

BOTH: dict[str, QuantScheme] = {
    "int8-token": QuantScheme.named(weight="int8", **_INT8_TOKEN),
    "int8-static": QuantScheme.named(
        weight="int8", activation="int8", activation_granularity="tensor", dynamic=False
    ),
    "int4-int8-token": _group("int4", 32, scale="bf16", **_INT8_TOKEN),
    "int4-int4-token": QuantScheme.named(
        weight="int4", activation="int4", activation_granularity="token"
    ),
    "int4-fp8-token": _group("int4", 32, scale="bf16", **_FP8_TOKEN),
    "fp8-token": QuantScheme.named(weight="fp8_e4m3", **_FP8_TOKEN),
    "fp8-whole": QuantScheme.named(
        weight="fp8_e4m3",
        granularity="tensor",
        activation="fp8_e4m3",
        activation_granularity="tensor",
    ),
    "fp8-static": QuantScheme.named(
        weight="fp8_e4m3",
        granularity="tensor",
        activation="fp8_e4m3",
        activation_granularity="tensor",
        dynamic=False,
    ),
    "fp8-blocks": QuantScheme.named(
        weight="fp8_e4m3",
        granularity="block",
        block=(128, 128),
        activation="fp8_e4m3",
        activation_granularity="group",
        activation_group=128,
    ),
    "fnuz-token": QuantScheme.named(
        weight="fp8_e4m3fnuz", activation="fp8_e4m3fnuz", activation_granularity="token"
    ),
    "mxfp8": QuantScheme.named(weight="fp8_e4m3", **_MX, **_mx("fp8_e4m3")),
    "mxfp4": QuantScheme.named(weight="fp4_e2m1", **_MX, **_mx("fp4_e2m1")),
}
"""Inputs are quantized too."""

SCHEMES = WEIGHT_ONLY | BOTH

THOROUGH = (
    *("int8-channel", "int4-g32", "uint4-g32-zero", "uint4-g32-zero-ordered", "mxfp4-weights"),
    *("nvfp4-weights", "int8-token", "fp8-token", "fp8-blocks"),
)
"""Asked at every edge; the others at two."""

EXPERTS = (
    *("int8-channel", "int4-g32", "uint4-g32-zero", "mxfp4-weights", "nvfp4-weights", "nf4-g64"),
    *(
        "int8-token",
        "int8-static",
        "int4-int8-token",
        "int4-fp8-token",
        "fp8-token",
        "fp8-static",
        "fp8-blocks",
    ),
    "mxfp8",
)
"""Asked of grouped experts."""

UNKNOWN = QuantScheme(name="kit", weight="kit5", granularity="channel")
"""Of a type that there is not."""

UNKNOWN_INPUTS = QuantScheme.named(weight="int8", activation="kit5")
"""Inputs are to be of a type that there is not."""
