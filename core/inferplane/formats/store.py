"""A quantized checkpoint as a store of canonical tensors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from inferplane.plugins.site import WeightNeed
from inferplane.spec import WeightPart
from inferplane.spec.quantized import dequantize

from .base import Format, Shape
from .checkpoint import Checkpoint
from .views import cut, view

if TYPE_CHECKING:
    import torch


# what a scheme is made of; all else beside it (biases, sinks) is stored as it is
_CANONICAL = ("weight", "scale", "zero", "global_scale", "order", "input_scale")


def module_of(part: WeightPart) -> tuple[str, str]:
    """(module, canonical name) of a part's key."""
    module, _, name = part.key.rpartition(".")
    return module, name


class Modules:
    """Canonical tensors of modules that were made, until each was read once: a site reads one name
    after the other, and a module's tensors are made together."""

    def __init__(self) -> None:
        self._held: dict[str, dict[str, torch.Tensor]] = {}

    def take(self, module: str, name: str) -> torch.Tensor | None:
        held = self._held.get(module, {})
        tensor = held.pop(name, None)
        if not held:
            self._held.pop(module, None)
        return tensor

    def keep(self, module: str, tensors: dict[str, torch.Tensor]) -> None:
        self._held[module] = tensors


class QuantizedStore:
    """Reads through a format what it says is quantized, and all else as it is stored."""

    def __init__(self, checkpoint: Checkpoint, format: Format) -> None:
        self.checkpoint, self.format = checkpoint, format
        self._modules = Modules()

    def read(self, part: WeightPart) -> torch.Tensor:
        """A slice. A weight that is wanted in the model's own type is dequantized."""
        module, name = module_of(part)
        scheme = self.format.scheme(module)
        if not scheme.quantized or name not in _CANONICAL:
            return self.checkpoint.read(part)
        if name == "weight" and not part.dtype:
            whole = dequantize(scheme, self.format.load(module, self._stored))
            return cut(view(whole, part.view), part)
        tensor = self._modules.take(module, name)
        if tensor is None:
            tensors = self.format.load(module, self._stored)
            tensor = tensors.pop(name)
            self._modules.keep(module, tensors)
        steps = tuple(step for step in part.view if step != "transpose")
        return cut(view(tensor, steps), part)

    def _stored(self, name: str) -> torch.Tensor:
        return self.checkpoint.tensor(name)

    def close(self) -> None:
        self.checkpoint.close()

    def check(self, needs: Iterable[WeightNeed], tied: bool, ignored: tuple[str, ...] = ()) -> None:
        """Raises UserError that lists missing, unexpected and misshapen tensors."""
        plain: list[WeightNeed] = []
        stored: dict[str, Shape | None] = {}
        for need in needs:
            others = []
            for part in need.parts:
                module, name = module_of(part)
                scheme = self.format.scheme(module)
                if not scheme.quantized or name not in _CANONICAL:
                    others.append(part)
                elif name == "weight":
                    packed = scheme.packed if part.dtype else 1
                    *front, columns = part.stored or part.full_shape
                    stored |= self.format.stored(module, (*front, columns * packed))
            if others:
                plain.append(WeightNeed(need.name, tuple(others), need.dtype, need.tied_to))
        self.checkpoint.check(plain, tied, stored, ignored)
