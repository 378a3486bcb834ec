"""One checkpoint for every format and storage, for `quantized.write`."""

from __future__ import annotations

from typing import Any

import torch

from .quantized import (
    Case,
    eights,
    exponents8,
    fp4,
    fp8,
    nvfp4,
    packed,
    static8,
    whole,
)


def fp8_config(method: str = "fp8", **more: Any) -> dict[str, Any]:
    return {"quant_method": method, **more}


def args(bits: int, kind: str = "int", **more: Any) -> dict[str, Any]:
    return {"num_bits": bits, "type": kind, "symmetric": True, "dynamic": False, **more}


def compressed(format: str, weights: Any, inputs: Any = None, **more: Any) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    return {
        "quant_method": "compressed-tensors",
        "format": format,
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
        **more,
    }


def slim(kind: str, writer: Any, **more: Any) -> Case:
    """All projections of one of ModelSlim's types, but one that is "FLOAT"."""
    return Case(
        None,
        {"layers.1.mlp.down_proj": None, "": writer},
        file=lambda types: ("quant_model_description.json", {**types, "version": "1.0.0", **more}),
        kinds={"": kind},
    )


def quark(weight: dict[str, Any], inputs: dict[str, Any] | None = None) -> dict[str, Any]:
    layer = {"weight": weight, "input_tensors": inputs, "output_tensors": None, "bias": None}
    return {
        "quant_method": "quark",
        "global_quant_config": layer,
        "layer_quant_config": {},
        "exclude": ["lm_head", "*.layers.1.mlp.down_proj"],
        "export": {"pack_method": "reorder", "weight_format": "real_quantized"},
    }


TOKEN = {"strategy": "token", "dynamic": True}
CHANNEL = {"strategy": "channel"}
GROUP_32 = {"strategy": "group", "group_size": 32}
BY_32 = {"group_size": 32, "qscheme": "per_group", "ch_axis": -1}
EXPONENTS = GROUP_32 | {"scale_dtype": "torch.uint8"}
BLOCKS = {"": fp8(rows=32, columns=64, scale="weight_scale_inv")}

CASES: dict[str, Case] = {
    "fp8-blocks": Case(
        fp8_config(weight_block_size=[32, 64], fmt="e4m3", activation_scheme="dynamic"),
        {"layers.1.mlp.down_proj": None} | BLOCKS,
    ),
    "fp8-tensor": Case(fp8_config(), {"": fp8()}),
    "fp8-tensor-static": Case(
        fp8_config(activation_scheme="static", ignored_layers=["lm_head"]),
        {"": fp8(input_scale="input_scale")},
    ),
    "fp8-fnuz": Case(fp8_config(), {"": fp8(torch.float8_e4m3fnuz)}),
    "fbgemm-fp8": Case(fp8_config("fbgemm_fp8", activation_scale_ub=1200.0), {"": fp8(rows=1)}),
    "mxfp8": Case(
        fp8_config("mxfp8", weight_block_size=[1, 32], scale_fmt="ue8m0"),
        {"": exponents8("weight_scale_inv")},
    ),
    "ct-w4a16": Case(compressed("pack-quantized", args(4, **GROUP_32)), {"": packed()}),
    "ct-w4a16-zero": Case(
        compressed("pack-quantized", args(4, **GROUP_32 | {"symmetric": False})),
        {"": packed(zero=True)},
    ),
    "ct-w4a16-ordered": Case(
        compressed("pack-quantized", args(4, **GROUP_32, actorder="group")),
        {"": packed(ordered=True)},
    ),
    "ct-w8a16": Case(compressed("pack-quantized", args(8, **CHANNEL)), {"": packed(8, columns=0)}),
    "ct-w8a8": Case(
        compressed("int-quantized", args(8, **CHANNEL), args(8, **TOKEN)), {"": whole()}
    ),
    "ct-w8a8-static": Case(
        compressed("int-quantized", args(8, **CHANNEL), args(8, strategy="tensor")),
        {"": whole(input_scale=0.02)},
    ),
    "ct-w4a8": Case(
        compressed("int-quantized", args(4, **GROUP_32), args(8, **TOKEN)),
        {"": whole(4, columns=32)},
    ),
    "ct-fp8": Case(
        compressed("float-quantized", args(8, "float", **CHANNEL), args(8, "float", **TOKEN)),
        {"": fp8(rows=1)},
    ),
    "ct-nvfp4": Case(
        compressed(
            "nvfp4-pack-quantized",
            args(4, "float", strategy="tensor_group", group_size=16),
            args(4, "float", strategy="tensor_group", group_size=16, dynamic="local"),
        ),
        {"": nvfp4("weight_packed", "weight_global_scale", "input_global_scale", inverse=True)},
    ),
    "ct-mxfp4": Case(
        compressed("mxfp4-pack-quantized", args(4, "float", **EXPONENTS)),
        {"": fp4("weight_packed")},
    ),
    "ct-mixed": Case(
        compressed(
            "mixed-precision",
            None,
            config_groups={
                "group_0": {
                    "targets": ["re:.*self_attn.*"],
                    "weights": args(8, "float", **CHANNEL),
                    "input_activations": args(8, "float", **TOKEN),
                    "format": "float-quantized",
                },
                "group_1": {
                    "targets": ["Linear"],
                    "weights": args(4, **GROUP_32),
                    "format": "pack-quantized",
                },
            },
            ignore=["lm_head", "model.layers.1.mlp.down_proj"],
        ),
        {"self_attn": fp8(rows=1), "layers.1.mlp.down_proj": None, "": packed()},
    ),
    "modelopt-fp8": Case(
        fp8_config("modelopt", quant_algo="FP8", ignore=["lm_head"]),
        {"": fp8(input_scale="input_scale")},
    ),
    "modelopt-nvfp4": Case(
        None,
        {"layers.1.mlp": None, "": nvfp4("weight", "weight_scale_2", "input_scale")},
        file=lambda types: (
            "hf_quant_config.json",
            {
                "producer": {"name": "modelopt"},
                "quantization": {
                    "quant_algo": "NVFP4",
                    "group_size": 16,
                    "exclude_modules": ["lm_head", "model.layers.1.mlp*"],
                },
            },
        ),
    ),
    "modelslim-w8a8": slim("W8A8", static8),
    "modelslim-w8a8-dynamic": slim("W8A8_DYNAMIC", whole(offset=True)),
    "modelslim-w4a8": slim("W4A8_DYNAMIC", whole(4, offset=True, rows=True)),
    "modelslim-w4a4": slim("W4A4_DYNAMIC", whole(4, columns=32, offset=True), group_size=32),
    "modelslim-w8a16": slim("W8A16", whole(offset=True)),
    "modelslim-mxfp8": slim("W8A8_MXFP8", exponents8()),
    "quark-int4": Case(
        quark({"dtype": "int4", "symmetric": True, **BY_32}),
        {"layers.1.mlp.down_proj": None, "": eights(True)},
    ),
    "quark-uint4": Case(
        quark({"dtype": "uint4", "symmetric": False, **BY_32}),
        {"layers.1.mlp.down_proj": None, "": eights(False)},
    ),
    "quark-fp8": Case(
        quark(
            {"dtype": "fp8_e4m3", "qscheme": "per_tensor", "symmetric": True},
            {"dtype": "fp8_e4m3", "qscheme": "per_tensor", "symmetric": True, "is_dynamic": False},
        ),
        {"layers.1.mlp.down_proj": None, "": fp8(input_scale="input_scale")},
    ),
    "quark-mxfp4": Case(
        quark({"dtype": "fp4", "scale_format": "e8m0", **BY_32}),
        {"layers.1.mlp.down_proj": None, "": fp4("weight")},
    ),
}
CASES["fp8-blocks"].config["modules_to_not_convert"] = ["model.layers.1.mlp.down_proj"]  # type: ignore[index]
