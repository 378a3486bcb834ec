"""Sites: the places of a model graph that need a kernel, as a tree. Recorded without torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod

from inferplane.spec import Request, WeightPart, size_in_bytes


@dataclass(slots=True)
class WeightNeed:
    """A canonical tensor that a site reads: its parts in the checkpoint, and its dtype. experts:
    its parts belong to so many experts, which become the first axis."""

    name: str
    parts: tuple[WeightPart, ...]
    dtype: str
    tied_to: str = ""
    experts: int = 0

    @property
    def elements(self) -> int:
        return sum(prod(part.shape) for part in self.parts)

    @property
    def bytes(self) -> int:
        return sum(size_in_bytes(part.shape, self.dtype) for part in self.parts)


@dataclass(slots=True)
class Site:
    """One place. A site with children is a composite: a larger candidate may replace them all.

    layer: index of the decoder layer, -1 outside of layers.
    """

    path: str
    request: Request | None = None
    layer: int = -1
    children: list[Site] = field(default_factory=list)
    weights: list[WeightNeed] = field(default_factory=list)

    def walk(self) -> Iterator[Site]:
        """This site and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()

    def needs(self) -> Iterator[WeightNeed]:
        """Every tensor that this site and those below it read."""
        for site in self.walk():
            yield from site.weights
