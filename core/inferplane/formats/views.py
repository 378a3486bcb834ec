"""From a stored tensor to the one that a site wants: see `WeightPart.view`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferplane.spec import WeightPart

if TYPE_CHECKING:
    import torch


def view(tensor: torch.Tensor, steps: tuple[str, ...]) -> torch.Tensor:
    """Applies the steps in order. Raises ValueError for one that is not known."""
    import torch

    for step in steps:
        name, *numbers = step.split(":")
        if name == "transpose":
            tensor = tensor.transpose(-1, -2)
        elif name == "deinterleave":
            tensor = torch.cat([tensor[:, 0::2], tensor[:, 1::2]], dim=1)
        elif name == "split":
            tensor = tensor.unflatten(0, (int(numbers[0]), -1))
        elif name == "rows":
            first, last = map(int, numbers)
            tensor = tensor.narrow(-2, first, last - first)
        else:
            raise ValueError(f"no view {step!r}")
    return tensor


def cut(tensor: torch.Tensor, part: WeightPart) -> torch.Tensor:
    """The part's slice of a whole tensor."""
    if part.shape == part.full_shape:
        return tensor
    return tensor[tuple(slice(o, o + n) for o, n in zip(part.offset, part.shape, strict=True))]
