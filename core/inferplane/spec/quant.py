"""A quantization scheme as data: what the numbers in a checkpoint mean, whatever file held them.

Every format is read into the same tensors; `spec.quantized` packs and unpacks them. N outputs,
K inputs; experts have one more axis in front. A weight's value is

    (code - zero) * scale * global_scale

| name | type and shape | when |
| --- | --- | --- |
| weight | 8 bits: the scheme's type, [N, K]; 4 bits: uint8 [N, K/2], input 2j low | always |
| scale | the scheme's type (ue8m0 as uint8), by `granularity`: tensor [parts], channel [N], \
group [N, K/group], block [N/rows, K/columns] rounded up | always |
| zero | uint8, as `scale` | `zero_point` |
| global_scale | fp32 [parts] | `global_scale` |
| order | int32 [K]: stored input j is the layer's input order[j] | `reordered` |
| input_scale | fp32 [parts]; fused parts use the largest | static activations |

Codes: "int4" is stored as value + 8 (0 to 15), "uint4" and "uint8" as they are (with a zero point),
"fp4_e2m1" and "nf4" as their four bits, all else in torch's type.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantScheme:
    """How a weight, and the activations that meet it, are represented.

    name: short canonical name, for requests and tables (`named` makes it); "none" means not
      quantized. weight: dtype name of a weight element, "" when not quantized.
    granularity: what shares one scale: the whole tensor, an output channel, a group of `group`
      inputs, or a block of `block` (outputs, inputs).
    zero_point: whether the weight has an offset. scale: dtype name of the scales.
    global_scale: a second scale, one a tensor, over the others (NVFP4).
    activation: dtype name that inputs are quantized to, "" when they stay as they are.
    activation_granularity: what shares an input's scale: all, a token, or `activation_group` of
      its inputs. activation_scale: dtype name of those scales.
    dynamic: activation scales are found at run time rather than stored. False with
      `activation_granularity` "group" (NVFP4): the stored number scales the groups' scales.
    reordered: input channels are permuted by an index that comes with the weight ("act order").
    """

    name: str
    weight: str = ""
    granularity: Literal["tensor", "channel", "group", "block"] = "channel"
    group: int = 0
    block: tuple[int, int] = (0, 0)
    zero_point: bool = False
    scale: str = "fp32"
    activation: str = ""
    activation_granularity: Literal["tensor", "token", "group"] = "token"
    dynamic: bool = True
    reordered: bool = False
    global_scale: bool = False
    activation_group: int = 0
    activation_scale: str = "fp32"

    @classmethod
    def named(cls, **fields: Any) -> QuantScheme:
        """The scheme with its canonical name, such as "int4-g128" or "fp8_e4m3-channel-a8token"."""
        plain = cls(name="", **fields)
        if plain.granularity == "group":
            shared = f"g{plain.group}"
        elif plain.granularity == "block":
            shared = "b{}x{}".format(*plain.block)
        else:
            shared = plain.granularity
        words = [plain.weight, shared]
        if plain.zero_point:
            words.append("zero")
        if plain.reordered:
            words.append("ordered")
        if plain.scale not in ("fp32", "bf16", "fp16"):
            words.append(f"s{plain.scale}")
        if plain.activation:
            by: str = plain.activation_granularity
            by = f"g{plain.activation_group}" if by == "group" else by
            words.append(f"a:{plain.activation}-{by}{'' if plain.dynamic else '-static'}")
        return cls(name="-".join(words), **fields)

    @property
    def quantized(self) -> bool:
        return self.name != "none"

    @property
    def packed(self) -> int:
        """Weight elements a byte: 2 for 4-bit types, else 1."""
        return 2 if self.weight in FOUR_BIT else 1

    @property
    def storage(self) -> str:
        """dtype name of the tensor that holds the weight: uint8 for 4-bit types."""
        return "uint8" if self.packed == 2 else self.weight

    @property
    def scale_storage(self) -> str:
        """dtype name of the tensor that holds the scales: exponents are uint8."""
        return "uint8" if self.scale == "ue8m0" else self.scale

    def semantics(self) -> Iterator[str]:
        """What a kernel must handle for this scheme, as names for `Candidate.features`."""
        if not self.quantized:
            return
        yield "quantized"
        if self.zero_point:
            yield "zero_point"
        if self.reordered:
            yield "reordered"
        if self.global_scale:
            yield "global_scale"
        if self.activation:
            yield "quantized_activation"
            if not self.dynamic:
                yield "static_activation"


FOUR_BIT = frozenset({"int4", "uint4", "fp4_e2m1", "nf4"})
UNQUANTIZED = QuantScheme(name="none")
