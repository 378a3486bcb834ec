"""A recipe as the compile-time arguments of `tiles`."""

from __future__ import annotations

from typing import Any

import triton.language as tl

from . import tiles
from .prepared import Operand
from .schemes import Recipe

TYPES = {
    "fp32": tl.float32,
    "fp16": tl.float16,
    "bf16": tl.bfloat16,
    "int8": tl.int8,
    "fp8_e4m3": tl.float8e4nv,
    "fp8_e4m3fnuz": tl.float8e4b8,
}
_FORMATS = {"bf16": "bf16", "fp16": "fp16", "fp8_e4m3": "e4m3"}
_KINDS = {
    "float": tiles.FLOAT,
    "int8": tiles.INT8,
    "fp8_bits": tiles.FP8_BITS,
    "fp8": tiles.FP8,
    "int4": tiles.INT4,
    "fp4": tiles.FP4,
    "nf4": tiles.NF4,
}
_INPUTS = {
    "as_is": tiles.AS_IS,
    "token": tiles.TOKEN,
    "group": tiles.GROUP,
    "static": tiles.STATIC,
}


def constants(recipe: Recipe, made: Operand) -> dict[str, Any]:
    return {
        "PACKED": recipe.packed,
        "KIND": _KINDS[recipe.kind].value,
        "OFFSET": recipe.offset,
        "ZERO": recipe.zero,
        "W_GROUP": recipe.group,
        "W_ROWS": recipe.rows,
        "W_STEP": made.width,
        "W_EXPONENTS": recipe.exponents,
        "IN_WEIGHT": recipe.in_weight,
        "INPUT": _INPUTS[recipe.input].value,
        "X_GROUP": recipe.input_group,
        "X_EXPONENTS": recipe.input_exponents,
        "TYPE": TYPES[recipe.type],
        "HIGH": recipe.high,
        "BLOCK_SCALED": recipe.block_scaled,
        "X_FORMAT": _FORMATS.get(recipe.type, ""),
        "LAST": made.last is not None,
    }
