"""Where a module's tensors are in a file, and how they become canonical ones.

Most formats are this: a scheme and a few names. They subclass `LaidOut` and give a `Layout` for
each module. Legend: N outputs, K inputs; "..." for the axis of experts.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Literal

from inferplane.errors import UserError
from inferplane.spec import UNQUANTIZED, QuantScheme

from .base import Format, Read, Shape

if TYPE_CHECKING:
    import torch

Packing = Literal["canonical", "loose", "words", "rows", "blocks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Names are of tensors under the module; one that starts with "_" goes on with its name.

    packing: of the weight, "canonical"; "loose": 4-bit numbers in an int8 each; "words": numbers
    plus half their range, in the bits of int32 from the lowest on, [..., N, K * bits / 32], and
    their zero points so along the outputs; "rows": two 4-bit numbers a byte along the outputs,
    [..., N / 2, K]; "blocks": canonical, with an axis for each group.
    inverse: second scales, and static ones of inputs, are divided by.
    optional: tensors that may be there and are not needed. zeros: those that must be zero then.
    """

    scheme: QuantScheme
    weight: str = "weight"
    scale: str = "weight_scale"
    zero: str = ""
    global_scale: str = ""
    input_scale: str = ""
    order: str = ""
    packing: Packing = "canonical"
    inverse: bool = False
    optional: tuple[str, ...] = ()
    zeros: tuple[str, ...] = ()

    @property
    def bits(self) -> int:
        return 4 if self.scheme.packed == 2 else 8


def name_of(module: str, name: str) -> str:
    return f"{module}{name}" if name.startswith("_") else f"{module}.{name}"


class LaidOut(Format):
    """A format whose modules are layouts."""

    @abstractmethod
    def layout(self, module: str) -> Layout | None:
        """None for modules that are not quantized. Cheap; raises UserError for what is said of the
        module but not known."""

    def scheme(self, module: str) -> QuantScheme:
        layout = self.layout(module)
        return layout.scheme if layout else UNQUANTIZED

    def stored(self, module: str, shape: Shape) -> dict[str, Shape | None]:
        layout = self.layout(module)
        assert layout is not None
        check_sizes(module, layout, shape)
        found = {name_of(module, name): s for name, s in _shapes(layout, shape).items()}
        unused = dict.fromkeys((*layout.optional, *layout.zeros))
        return {name_of(module, name): None for name in unused} | found | cache_scales(module)

    def load(self, module: str, read: Read) -> dict[str, torch.Tensor]:
        from .unpacking import canonical

        layout = self.layout(module)
        assert layout is not None
        return canonical(layout, lambda name: read(name_of(module, name)), module)

    def verify(self, module: str, read: Read, dense: bool = False) -> None:
        layout = self.layout(module)
        for name in layout.zeros if layout else ():
            if dense and name.startswith("input_"):
                continue
            try:
                tensor = read(name_of(module, name))
            except KeyError:
                continue
            if tensor.any():
                raise UserError(
                    f"{name_of(module, name)} is not zero: {_ASYMMETRIC.get(name, 'it must be')}"
                )


_INPUTS = (
    "asymmetric activations are not supported; quantize them symmetrically, or load the weights "
    "alone with --quantization dequantize"
)
_ASYMMETRIC = {
    "input_offset": _INPUTS,
    "input_zero_point": _INPUTS,
    "weight_offset": "asymmetric weights of this kind are not supported",
}


def check_sizes(module: str, layout: Layout, shape: Shape) -> None:
    """Raises UserError where sizes do not fill groups, bytes or words."""
    outputs, inputs = shape[-2:]
    scheme = layout.scheme
    if scheme.granularity == "group" and inputs % scheme.group:
        raise UserError(f"{module}: {inputs} inputs cannot be cut into groups of {scheme.group}")
    if inputs % scheme.packed:
        raise UserError(f"{module}: {inputs} inputs do not fill bytes of two")
    if layout.packing == "words" and inputs * layout.bits % 32:
        raise UserError(f"{module}: {inputs} inputs of {layout.bits} bits do not fill words of 32")
    if layout.packing == "rows" and outputs % 2:
        raise UserError(f"{module}: {outputs} outputs do not fill bytes of two")


def scale_shape(scheme: QuantScheme, shape: Shape) -> Shape:
    """Canonical, of a whole module; one scale has one axis."""
    *front, outputs, inputs = shape
    if scheme.granularity == "tensor":
        return (*front, 1)
    if scheme.granularity == "channel":
        return (*front, outputs)
    if scheme.granularity == "group":
        return (*front, outputs, inputs // scheme.group)
    return (*front, ceil(outputs / scheme.block[0]), ceil(inputs / scheme.block[1]))


def _shapes(layout: Layout, shape: Shape) -> dict[str, Shape]:
    *front, outputs, inputs = shape
    scheme, bits = layout.scheme, layout.bits
    weight: Shape = {
        "canonical": (*front, outputs, inputs // scheme.packed),
        "loose": shape,
        "words": (*front, outputs, ceil(inputs * bits / 32)),
        "rows": (*front, outputs // 2, inputs),
        "blocks": (*front, outputs, inputs // max(scheme.group, 1), scheme.group // scheme.packed),
    }[layout.packing]
    shared = scale_shape(scheme, shape)
    found = {layout.weight: weight, layout.scale: shared}
    if layout.zero:
        groups = shared[-1] if scheme.granularity == "group" else 1
        packed = (*front, ceil(outputs * bits / 32), groups)
        found[layout.zero] = packed if layout.packing == "words" else shared
    for name in (layout.global_scale, layout.input_scale):
        if name:
            found[name] = (1,)
    if layout.order:
        found[layout.order] = (inputs,)
    return found


def cache_scales(module: str) -> dict[str, Shape | None]:
    """Scales of a quantized KV cache that a file may hold beside the projections of k and v."""
    owner, _, last = module.rpartition(".")
    if last not in ("q_proj", "k_proj", "v_proj"):
        return {}
    letter = last[0]
    names = [f"{owner}.{letter}_scale", f"{owner}.{letter}_zero_point"]
    names += [f"{module}.{letter}_scale", f"{module}.output_scale", f"{module}.output_zero_point"]
    names += [f"{module}.kv_cache_scale", f"{module}.kv_cache_offset"]
    return dict.fromkeys(names)
