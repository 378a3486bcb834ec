"""Sites: the places of a model graph that need a kernel, as a tree. Recorded without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import prod

from inferplane.spec import Request, WeightPart, size_in_bytes


class WeightNeed:
    """A canonical tensor that a site reads: its parts in the checkpoint, and its dtype.

    experts: its parts belong to so many experts, which become the first axis; 0 for none. every:
    makes the parts of all experts when they are first wanted; `parts` are one expert's then. A
    model has tens of thousands, and a plan needs only their sizes.
    """

    __slots__ = ("_every", "_parts", "dtype", "experts", "name", "tied_to")

    def __init__(
        self,
        name: str,
        parts: tuple[WeightPart, ...],
        dtype: str,
        tied_to: str = "",
        experts: int = 0,
        every: Callable[[], tuple[WeightPart, ...]] | None = None,
    ) -> None:
        self.name, self.dtype, self.tied_to, self.experts = name, dtype, tied_to, experts
        self._parts, self._every = parts, every

    @property
    def parts(self) -> tuple[WeightPart, ...]:
        if self._every is not None:
            self._parts, self._every = self._every(), None
        return self._parts

    @property
    def elements(self) -> int:
        return self._sum(lambda shape: prod(shape))

    @property
    def bytes(self) -> int:
        return self._sum(lambda shape: size_in_bytes(shape, self.dtype))

    @property
    def count(self) -> int:
        """How many parts there are. Makes none."""
        return self._sum(lambda shape: 1)

    def _sum(self, size: Callable[[tuple[int, ...]], int]) -> int:
        copies = self.experts if self._every is not None else 1
        return copies * sum(size(part.shape) for part in self._parts)


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
