"""A quantized checkpoint as a store of canonical tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from inferplane.errors import UserError
from inferplane.plugins.site import WeightNeed
from inferplane.spec import UNQUANTIZED, QuantScheme, WeightPart
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

    def take(self, part: WeightPart, make: Callable[[], dict[str, torch.Tensor]]) -> torch.Tensor:
        """A part's whole tensor, after its view; `make` is called where it is not held. Modules are
        made as outputs by inputs, so nothing is transposed any more."""
        module, name = module_of(part)
        if name not in self._held.get(module, ()):
            self._held[module] = make()
        held = self._held[module]
        tensor = held.pop(name)
        if not held:
            del self._held[module]
        return view(tensor, tuple(step for step in part.view if step != "transpose"))


class QuantizedStore:
    """Reads through a format what it says is quantized, and all else as it is stored."""

    def __init__(self, checkpoint: Checkpoint, format: Format) -> None:
        self.checkpoint, self.format = checkpoint, format
        self._modules = Modules()

    def read(self, part: WeightPart) -> torch.Tensor:
        """A slice. A weight that is wanted in the model's own type is dequantized."""
        module, name = module_of(part)
        scheme = self._scheme(part)
        if not scheme.quantized:
            return self.checkpoint.read(part)
        if name == "weight" and not part.dtype:
            whole = dequantize(scheme, self.format.load(module, self._stored))
            return cut(view(whole, part.view), part)
        whole = self._modules.take(part, lambda: self.format.load(module, self._stored))
        if tuple(whole.shape) != part.full_shape:
            raise UserError(
                f"{part.key} is {list(whole.shape)} as {self.format.name} reads it, the model "
                f"needs {list(part.full_shape)}"
            )
        return cut(whole, part)

    def _scheme(self, part: WeightPart) -> QuantScheme:
        """Of a part. Vectors (norms, biases) are not quantized, whatever the format says of the
        module that they belong to."""
        module, name = module_of(part)
        vector = not part.dtype and len(part.full_shape) == 1
        if name not in _CANONICAL or vector:
            return UNQUANTIZED
        return self.format.scheme(module)

    def _stored(self, name: str) -> torch.Tensor:
        return self.checkpoint.tensor(name)

    def close(self) -> None:
        self.checkpoint.close()

    def check(self, needs: Iterable[WeightNeed], tied: bool, ignored: tuple[str, ...] = ()) -> None:
        """Raises UserError that lists missing, unexpected and misshapen tensors."""
        plain: list[WeightNeed] = []
        stored: dict[str, Shape | None] = {}
        dense: dict[str, bool] = {}  # by module: whether it is read dequantized
        for need in needs:
            others = []
            for part in need.parts:
                module, name = module_of(part)
                scheme = self._scheme(part)
                if not scheme.quantized:
                    others.append(part)
                elif name == "weight":
                    packed = scheme.packed if part.dtype else 1
                    *front, columns = part.stored or part.full_shape
                    stored |= self.format.stored(module, (*front, columns * packed))
                    dense[module] = not part.dtype
            if others:
                plain.append(WeightNeed(need.name, tuple(others), need.dtype, need.tied_to))
        self.checkpoint.check(plain, tied, stored, ignored)
        self._no_lost_bias(plain, stored)
        for module, alone in dense.items():
            self.format.verify(module, self._stored, alone)

    def _no_lost_bias(self, plain: list[WeightNeed], stored: dict[str, Shape | None]) -> None:
        """Some tools store zeros for layers that have no bias. Other numbers would be lost."""
        wanted = {self.checkpoint.name(part.key) for need in plain for part in need.parts}
        for name in (stored.keys() & self.checkpoint.files.keys()) - wanted:
            if name.endswith(".bias") and bool(self._stored(name).any()):
                raise UserError(f"{name} is not zero, but the model has no bias there")
