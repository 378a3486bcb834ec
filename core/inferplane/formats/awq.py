"""AWQ: 4-bit integers with zero points by groups of inputs, in the layout "gemm" of AutoAWQ.

Legend: N outputs, K inputs, G groups. Per module: qweight int32 [K, N/8] and qzeros int32 [G, N/8],
whose words hold eight neighbouring outputs in the order 0, 2, 4, 6, 1, 3, 5, 7, low bits first;
scales fp16 [G, N]. A weight is (code - zero) * scale.
Sources: AWQ, arXiv 2306.00978; the layout as AutoAWQ 0.2.9 writes and reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import AliasChoices, Field

from inferplane.errors import UserError
from inferplane.spec import UNQUANTIZED, QuantScheme

from .base import Format, Read, Shape
from .names import is_kept
from .packing import canonical, interleaved
from .schema import CONFIG, Schema, read_schema, refuse
from .stored import take, take_scales

if TYPE_CHECKING:
    import torch

ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
_MIDDLE = 8


class Config(Schema):
    """`quantization_config`; the second names are of AutoAWQ's own file."""

    bits: int = Field(validation_alias=AliasChoices("bits", "w_bit"))
    group_size: int = Field(validation_alias=AliasChoices("group_size", "q_group_size"))
    zero_point: bool = True
    version: str = "gemm"
    modules_to_not_convert: list[str] | None = None


class AWQ(Format):
    name: ClassVar[str] = "awq"

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = found = read_schema(Config, config.get("quantization_config"))
        if found.bits != 4:
            raise refuse("bits", found.bits, "known: 4")
        if found.version.lower() != "gemm":
            raise refuse("version", found.version, "known: gemm")
        if found.group_size != -1 and found.group_size < 1:
            raise refuse("group_size", found.group_size, "it is -1, or a number of inputs")
        self._scheme = QuantScheme.named(
            weight="uint4" if found.zero_point else "int4",
            granularity="group" if found.group_size > 0 else "channel",
            group=max(found.group_size, 0),
            zero_point=found.zero_point,
            scale="fp16",
        )

    def scheme(self, module: str) -> QuantScheme:
        """Excluded are modules with one of the listed words anywhere in their path, as AutoAWQ
        does it."""
        skipped = self.config.modules_to_not_convert or ()
        kept = is_kept(module) or any(piece in module for piece in skipped)
        return UNQUANTIZED if kept else self._scheme

    def stored(self, module: str, shape: Shape) -> dict[str, Shape | None]:
        if len(shape) != 2:
            raise UserError(f"{module}: awq has no stacked experts")
        rows, columns = shape
        size = self.config.group_size if self.config.group_size > 0 else columns
        if rows % 8 or columns % size or columns % 2:
            raise UserError(
                f"{module}: {rows} outputs must be a multiple of 8, and {columns} inputs one of "
                f"{CONFIG}.group_size {size}"
            )
        return {
            f"{module}.qweight": (columns, rows // 8),
            f"{module}.qzeros": (columns // size, rows // 8),
            f"{module}.scales": (columns // size, rows),
        }

    def load(self, module: str, read: Read) -> dict[str, torch.Tensor]:
        codes = interleaved(take(read, f"{module}.qweight", "int32"), ORDER)
        zero = interleaved(take(read, f"{module}.qzeros", "int32"), ORDER)
        scale = take_scales(read, f"{module}.scales")
        found = {"weight": canonical(codes.t(), 4), "scale": self._shared(scale)}
        if self.config.zero_point:
            found["zero"] = self._shared(zero)
        elif bool((zero != _MIDDLE).any()):
            raise UserError(
                f"{CONFIG}.zero_point is false, but {module}.qzeros is not all {_MIDDLE}"
            )
        return found

    def _shared(self, numbers: torch.Tensor) -> torch.Tensor:
        """[G, N] -> [N, G], or [N] where there are no groups."""
        return numbers.t() if self.config.group_size > 0 else numbers[0]

    def describe(self) -> str:
        return f"awq, {self._scheme.name}"
