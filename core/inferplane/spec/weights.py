"""Weights: how a kernel reads its part of a checkpoint, once, and what it keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightPart:
    """One logical part of a fused tensor.

    key: "<module>.<canonical name>": where nothing is quantized, a tensor of the checkpoint.
    full_shape: its shape, after `view`. offset, shape: the slice that this rank reads. first: the
    part's first row in the fused tensor. dtype: as it is kept; "" for the model's type.
    view: what makes the stored tensor the one that is wanted, in order. "transpose" swaps the last
    two axes (quantized formats do so themselves), "deinterleave" sorts axis 1 so that even places
    come before odd ones (gate, up), "split:H" makes [H*N, K] out of H pieces [H, N, K], "rows:A:B"
    takes rows A to B of the last but one axis. stored: the shape in the checkpoint, before that.
    """

    name: str
    key: str
    full_shape: tuple[int, ...]
    offset: tuple[int, ...]
    shape: tuple[int, ...]
    first: int = 0
    dtype: str = ""
    view: tuple[str, ...] = ()
    stored: tuple[int, ...] = ()


class WeightSource(Protocol):
    """Lazy, named slices of a checkpoint for one site of the model graph.

    Names are canonical ("weight", "bias", "scale", ...: see `spec.quant`), whatever the format
    called them; for experts they begin with "gate_up." and "down.". For a
    block, `child` gives the source of each part of its reference composition.
    """

    @property
    def path(self) -> str:
        """Where in the model, for messages."""

    @property
    def tied_to(self) -> str:
        """The path of the site whose tensor this is, or "". Do not keep a second copy lightly."""

    @property
    def device(self) -> torch.device:
        """Where the kernel will run: results of `prepare` belong there."""

    def names(self) -> Sequence[str]:
        """Canonical names present."""

    def parts(self, name: str) -> Sequence[WeightPart]:
        """The parts that `read` joins, in order (q, k, v; gate, up)."""

    def read(self, name: str, part: str | None = None) -> torch.Tensor:
        """The tensor (all parts joined along axis 0, or one part), sharded, in the model's dtype
        or in the one that the request's scheme gives it.

        On `device`. The caller owns the result unless `tied_to` is set: then it is shared, and
        must not be written. Raises KeyError for a name that is not in `names()`.
        """

    def child(self, name: str) -> WeightSource:
        """The source of a part of a block. Raises KeyError with the names there are."""


@dataclass(slots=True, kw_only=True)
class Packed:
    """What `prepare` made. The kernel reads `data`; nobody else does.

    final_bytes: what stays allocated, tied tensors not counted. peak_bytes: most held while
    preparing, beyond the source. tensors: the same memory by name, for `dump` and accounting.
    """

    data: Any
    final_bytes: int
    peak_bytes: int = 0
    tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)
