"""A quantization scheme as data: what the numbers in a checkpoint mean, whatever file held them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantScheme:
    """How a weight, and the activations that meet it, are represented.

    name: short canonical name, for requests and tables; "none" means not quantized.
    weight: dtype name of a stored weight element, "" when not quantized.
    granularity: what shares one scale: the whole tensor, an output channel, a group of `group`
      inputs, or a block of `block` (outputs, inputs).
    zero_point: whether the weight has an offset. scale: dtype name of the scales.
    activation: dtype name that inputs are quantized to, "" when they stay as they are.
    dynamic: activation scales are found at run time rather than stored.
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

    @property
    def quantized(self) -> bool:
        return self.name != "none"


UNQUANTIZED = QuantScheme(name="none")
