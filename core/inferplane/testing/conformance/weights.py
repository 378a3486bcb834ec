"""Weights for `prepare`, from tensors of a problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from inferplane.spec import WeightPart

from .target import Target


class HostSource:
    """A `WeightSource` over host tensors; each read gives a new copy on the device, but for a tied
    tensor, which is one that others read too.

    parts: rows of the logical outputs, joined along axis 0. first: the first row in the whole
    tensor, where ranks share it. rows_of: by the name of a tensor, how many of its first axis
    belong to each part, where that is not their rows; () for a tensor without parts.
    """

    def __init__(
        self,
        tensors: Mapping[str, torch.Tensor],
        target: Target | None = None,
        parts: Sequence[int] = (),
        first: int = 0,
        tied: bool = False,
        rows_of: Callable[[str], tuple[int, ...]] | None = None,
    ) -> None:
        self.tensors, self.target, self.rows_of = tensors, target, rows_of
        self.rows, self.first = tuple(parts), first
        self.path = "kit.site"
        self.tied_to = "kit.owner" if tied else ""
        self.shared = self._place(tensors["weight"]) if tied else None

    @property
    def device(self) -> torch.device:
        return self.target.torch_device if self.target else torch.device("cpu")

    def _place(self, host: torch.Tensor) -> torch.Tensor:
        return self.target.put(host) if self.target else host.clone()

    def names(self) -> Sequence[str]:
        return list(self.tensors)

    def parts(self, name: str) -> Sequence[WeightPart]:
        tensor = self._tensor(name)
        rows = self.rows_of(name) if self.rows_of else self.rows
        rows = rows or (tensor.shape[0],)
        found, first = [], 0
        for at, count in enumerate(rows):
            found.append(
                WeightPart(
                    name=f"part{at}",
                    key=f"kit.part{at}.{name}",
                    full_shape=(self.first + count, *tensor.shape[1:]),
                    offset=(self.first, *(0 for _ in tensor.shape[1:])),
                    shape=(count, *tensor.shape[1:]),
                    first=first,
                )
            )
            first += count
        return found

    def read(self, name: str, part: str | None = None) -> torch.Tensor:
        tensor = self._tensor(name)
        if part is None:
            if name == "weight" and self.shared is not None:
                return self.shared
            return self._place(tensor)
        for piece in self.parts(name):
            if piece.name == part:
                return self._place(tensor[piece.first : piece.first + piece.shape[0]])
        raise KeyError(f"no part {part!r}; parts: {[p.name for p in self.parts(name)]}")

    def child(self, name: str) -> HostSource:
        raise KeyError(f"{name!r}: this site has no parts")

    def _tensor(self, name: str) -> torch.Tensor:
        if name not in self.tensors:
            raise KeyError(f"no tensor {name!r}; tensors: {list(self.tensors)}")
        return self.tensors[name]
