"""Weight sources for sites of a model graph, over any store of named tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from inferplane.plugins.site import Site, WeightNeed
from inferplane.spec import WeightPart

if TYPE_CHECKING:
    import torch


class TensorStore(Protocol):
    """Named tensors, by slice: a checkpoint on disk, or random numbers."""

    def read(self, part: WeightPart) -> torch.Tensor:
        """The part's slice, in the checkpoint's dtype, on the host (or already on the device)."""


class SiteSource:
    """`WeightSource` of one site. Tensors that others are tied to are kept and shared."""

    def __init__(
        self, site: Site, store: TensorStore, device: torch.device, shared: SharedTensors
    ) -> None:
        self.site, self.store, self._device, self.shared = site, store, device, shared
        self.needs = {need.name: need for need in site.weights}

    @property
    def path(self) -> str:
        return self.site.path

    @property
    def tied_to(self) -> str:
        return next((need.tied_to for need in self.site.weights if need.tied_to), "")

    @property
    def device(self) -> torch.device:
        return self._device

    def names(self) -> Sequence[str]:
        return list(self.needs)

    def parts(self, name: str) -> Sequence[WeightPart]:
        return self._need(name).parts

    def read(self, name: str, part: str | None = None) -> torch.Tensor:
        need = self._need(name)
        parts = [p for p in need.parts if part in (None, p.name)]
        if not parts:
            raise KeyError(f"{self.path}: no part {part!r}; parts: {[p.name for p in need.parts]}")
        key = need.tied_to or self.path
        if len(parts) == len(need.parts) and key in self.shared.wanted:
            return self.shared.get(f"{key}:{name}", lambda: self._read(need, parts))
        return self._read(need, parts)

    def child(self, name: str) -> SiteSource:
        for site in self.site.walk():
            if site is not self.site and site.path.rsplit(".", 1)[-1] == name:
                return SiteSource(site, self.store, self._device, self.shared)
        known = [s.path.rsplit(".", 1)[-1] for s in self.site.walk() if s is not self.site]
        raise KeyError(f"{self.path}: no part {name!r}; parts: {known}")

    def _need(self, name: str) -> WeightNeed:
        if name not in self.needs:
            raise KeyError(f"{self.path}: no tensor {name!r}; tensors: {list(self.needs)}")
        return self.needs[name]

    def _read(self, need: WeightNeed, parts: list[WeightPart]) -> torch.Tensor:
        import torch

        from inferplane.spec.torch_types import torch_dtype

        dtype = torch_dtype(need.dtype)
        if len(parts) == 1:
            # a copy: what the store gave may be mapped from the file, and go with it
            read = self.store.read(parts[0]).to(self._device, dtype, copy=True)
            return read.contiguous()
        rows = sum(part.shape[0] for part in parts)
        joined = torch.empty((rows, *parts[0].shape[1:]), dtype=dtype, device=self._device)
        first = 0
        for part in parts:
            joined[first : first + part.shape[0]].copy_(self.store.read(part))
            first += part.shape[0]
        if need.experts and len(parts) == len(need.parts):
            return joined.view(need.experts, -1, *joined.shape[1:])
        return joined


class SharedTensors:
    """Tensors that more than one site reads, by the path of their owner."""

    def __init__(self, root: Site) -> None:
        self.wanted = {need.tied_to for need in root.needs() if need.tied_to}
        self._kept: dict[str, torch.Tensor] = {}

    def get(self, key: str, read: Callable[[], torch.Tensor]) -> torch.Tensor:
        if key not in self._kept:
            self._kept[key] = read()
        return self._kept[key]
