"""bitsandbytes: NF4 by blocks of 64 inputs, and 8-bit integers by rows.

Legend: N outputs, K inputs, B blocks of 64 neighbours in a row (K is a multiple of 64, so that none
goes over two rows). Per module, NF4 (`load_in_4bit`):

| stored | type and shape | what |
| --- | --- | --- |
| weight | uint8 [N*K/2, 1] | two codes a byte, the first one high |
| weight.absmax | fp32 [B], or uint8 [B] when "double quantized" | a block's scale |
| weight.quant_map | fp32 [16] | the value of each code |
| weight.nested_absmax, weight.nested_quant_map | fp32 [B/256], fp32 [256] | of uint8 scales |
| weight.quant_state.bitsandbytes__nf4 | uint8, JSON | shape, block sizes, offset of the scales |

int8 (`load_in_8bit`): weight int8 [N, K], SCB fp32 [N]; a weight is code * SCB / 127. Inputs stay
as they are here; bitsandbytes quantizes all but their largest columns.
Sources: QLoRA, arXiv 2305.14314; LLM.int8(), arXiv 2208.07339; the layout of bitsandbytes 0.50.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import ceil
from typing import TYPE_CHECKING, Any, ClassVar

from inferplane.errors import UserError
from inferplane.spec import UNQUANTIZED, QuantScheme
from inferplane.spec.quantized import NF4_VALUES

from .base import Format, Read, Shape
from .matching import listed
from .names import OUTSIDE
from .packing import swap_halves
from .schema import CONFIG, Schema, read_schema, refuse
from .stored import take

if TYPE_CHECKING:
    import torch

BLOCK = 64
_NESTED_BLOCK = 256
_NF4 = QuantScheme.named(weight="nf4", granularity="group", group=BLOCK)
_INT8 = QuantScheme.named(weight="int8", granularity="channel")


class Config(Schema):
    """`quantization_config`."""

    load_in_4bit: bool = False
    load_in_8bit: bool = False
    bnb_4bit_quant_type: str = "fp4"
    bnb_4bit_use_double_quant: bool = False
    bnb_4bit_quant_storage: str | None = "uint8"
    llm_int8_skip_modules: list[str] | None = None


class State(Schema):
    """The JSON beside a weight. nested_offset: the mean of the scales."""

    quant_type: str
    blocksize: int
    shape: list[int]
    nested_blocksize: int = _NESTED_BLOCK
    nested_offset: float = 0.0


class BitsAndBytes(Format):
    name: ClassVar[str] = "bitsandbytes"

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = found = read_schema(Config, config.get("quantization_config"))
        if found.load_in_4bit == found.load_in_8bit:
            value = found.load_in_4bit
            raise UserError(f"{CONFIG}: load_in_4bit and load_in_8bit are both {value}")
        if found.load_in_4bit and found.bnb_4bit_quant_type != "nf4":
            raise refuse("bnb_4bit_quant_type", found.bnb_4bit_quant_type, "known: nf4")
        if found.load_in_4bit and found.bnb_4bit_quant_storage not in (None, "uint8"):
            raise refuse("bnb_4bit_quant_storage", found.bnb_4bit_quant_storage, "known: uint8")
        self._scheme = _NF4 if found.load_in_4bit else _INT8

    def scheme(self, module: str) -> QuantScheme:
        """Excluded are what the list names, with all below; without a list the last projection."""
        skipped = self.config.llm_int8_skip_modules
        if listed(module, OUTSIDE if skipped is None else [*skipped, "embed_tokens"]):
            return UNQUANTIZED
        return self._scheme

    def stored(self, module: str, shape: Shape) -> dict[str, Shape | None]:
        if len(shape) != 2:
            raise UserError(f"{module}: bitsandbytes has no stacked experts")
        rows, columns = shape
        weight = f"{module}.weight"
        if self.config.load_in_8bit:
            return {weight: shape, f"{module}.SCB": (rows,), f"{module}.weight_format": None}
        if columns % BLOCK:
            raise UserError(
                f"{module}: blocks of {BLOCK} weights go over the ends of rows of {columns}, which "
                "no scheme here has"
            )
        blocks = rows * columns // BLOCK
        found: dict[str, Shape | None] = {
            weight: (rows * columns // 2, 1),
            f"{weight}.absmax": (blocks,),
            f"{weight}.quant_map": (16,),
            f"{weight}.quant_state.bitsandbytes__nf4": None,  # of any length
        }
        if self.config.bnb_4bit_use_double_quant:
            found[f"{weight}.nested_absmax"] = (ceil(blocks / _NESTED_BLOCK),)
            found[f"{weight}.nested_quant_map"] = (256,)
        return found

    def load(self, module: str, read: Read) -> dict[str, torch.Tensor]:
        if self.config.load_in_8bit:
            return self._int8(module, read)
        import torch

        name = f"{module}.weight"
        state = _state(name, read)
        rows = state.shape[0]
        table = take(read, f"{name}.quant_map", "fp32")
        if not torch.equal(table, torch.tensor(NF4_VALUES)):
            raise UserError(f"{name}.quant_map does not hold the values of nf4")
        packed = take(read, name, "uint8")
        if state.shape[0] * state.shape[1] != 2 * packed.numel():
            raise UserError(f"{name} has {packed.numel()} bytes, for a shape of {state.shape}")
        return {
            "weight": swap_halves(packed).view(rows, -1),
            "scale": self._scales(name, state, read).view(rows, -1),
        }

    def _scales(self, name: str, state: State, read: Read) -> torch.Tensor:
        """fp32 [B]."""
        if not self.config.bnb_4bit_use_double_quant:
            return take(read, f"{name}.absmax", "fp32")
        codes = take(read, f"{name}.absmax", "uint8")
        table = take(read, f"{name}.nested_quant_map", "fp32")
        largest = take(read, f"{name}.nested_absmax", "fp32")
        spread = largest.repeat_interleave(state.nested_blocksize)[: len(codes)]
        return table[codes.long()] * spread + state.nested_offset

    def _int8(self, module: str, read: Read) -> dict[str, torch.Tensor]:
        layout = f"{module}.weight_format"
        try:
            kind = int(take(read, layout, "uint8"))
        except UserError:
            kind = 0
        if kind:
            raise UserError(f"{layout} is {kind}; known: 0 (rows)")
        return {
            "weight": take(read, f"{module}.weight", "int8"),
            "scale": take(read, f"{module}.SCB", "fp32") / 127.0,
        }

    def describe(self) -> str:
        return f"bitsandbytes, {self._scheme.name}"


def _state(name: str, read: Read) -> State:
    """Raises UserError where it is damaged, or says another layout than the config does."""
    key = f"{name}.quant_state.bitsandbytes__nf4"
    raw = take(read, key, "uint8")
    try:
        given = json.loads(bytes(raw.tolist()))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{key} is no JSON: {error}") from None
    state = read_schema(State, given, key)
    if state.quant_type != "nf4" or state.blocksize != BLOCK:
        found = f"{state.quant_type} in blocks of {state.blocksize}"
        raise UserError(f"{key} says {found!r}; known: nf4 in blocks of {BLOCK}")
    if len(state.shape) != 2 or min(state.shape) < 1 or state.nested_blocksize != _NESTED_BLOCK:
        raise UserError(f"{key}: the shape {state.shape} or the nested block is not known")
    return state
