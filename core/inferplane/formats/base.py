"""A checkpoint format: from names and numbers in files to a scheme and canonical tensors.

A module is the path of a projection in the checkpoint ("model.layers.0.self_attn.q_proj", or
"model.layers.0.mlp.experts.gate_up_proj" for stacked experts). Everything but `load` is a function
of data and imports no torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from inferplane.spec import QuantScheme

if TYPE_CHECKING:
    import torch

Read = Callable[[str], "torch.Tensor"]
Shape = tuple[int, ...]


class Format(ABC):
    """One checkpoint's format, out of its `quantization_config`.

    name: as users and files call it.
    """

    name: ClassVar[str] = ""

    @abstractmethod
    def __init__(self, config: Mapping[str, Any]) -> None:
        """config: the model's config.json, with `quantization_config` in it. Raises UserError,
        with the field and its value, for what is damaged or not known."""

    @abstractmethod
    def scheme(self, module: str) -> QuantScheme:
        """Of a module's weight; UNQUANTIZED for modules that the format leaves alone. Cheap, and
        the same each time."""

    @abstractmethod
    def stored(self, module: str, shape: Shape) -> dict[str, Shape | None]:
        """The tensors in the file that a quantized module is made of, with their shapes; None for
        those that may be absent. shape: of the dense weight, [N, K], or [X, N, K] for experts.
        Raises UserError where the sizes do not fit the scheme."""

    @abstractmethod
    def load(self, module: str, read: Read) -> dict[str, torch.Tensor]:
        """The module's canonical tensors (see `spec.quant`), whole. read: a stored tensor by name;
        KeyError for one that the checkpoint has not."""

    def kv_scales(self, attention: str) -> tuple[str, str] | None:
        """(optional) Names of the stored scales, one number each, of the keys and values that this
        attention module caches in 8 bits: what is cached is the key, or value, divided by it."""
        return None

    def verify(self, module: str, read: Read, dense: bool = False) -> None:
        """(optional) Raises UserError for what only the numbers of small tensors tell, before any
        weight is read. read: as in `load`. dense: the weight alone is wanted, dequantized; inputs
        are left alone."""
        return None

    def describe(self) -> str:
        """(optional) A few words for `explain`."""
        return self.name
