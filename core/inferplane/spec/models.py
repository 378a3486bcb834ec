"""New architectures and checkpoint formats, as plugins offer them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """An architecture. name: as in a checkpoint's `architectures`. load: "module:Class"."""

    name: str
    load: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatSpec:
    """A checkpoint format (provisional). detect: whether a checkpoint's config is of this format.
    load: "module:Class" of the reader that maps it to `QuantScheme` and canonical tensors."""

    name: str
    detect: Callable[[Mapping[str, Any]], bool]
    load: str
