"""Where a rank stands among others."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Group:
    """A named set of ranks that communicate. rank: this rank's position in `ranks`."""

    name: str
    ranks: tuple[int, ...] = (0,)
    rank: int = 0

    @property
    def size(self) -> int:
        return len(self.ranks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """Sizes of the five kinds of parallelism, and this process's global rank.

    dp data, pp pipeline, tp tensor, ep expert, cp context. Ranks are numbered with tp innermost,
    then cp, pp, dp. Expert groups lie over dp x cp x tp, so ep must divide that product.
    """

    dp: int = 1
    pp: int = 1
    tp: int = 1
    ep: int = 1
    cp: int = 1
    rank: int = 0

    def __post_init__(self) -> None:
        for axis in ("dp", "pp", "tp", "ep", "cp"):
            if getattr(self, axis) < 1:
                raise ValueError(f"{axis} is {getattr(self, axis)}; it must be at least 1")
        if (self.dp * self.cp * self.tp) % self.ep:
            raise ValueError(
                f"ep is {self.ep}; it must divide dp*cp*tp = {self.dp * self.cp * self.tp}"
            )
        if not 0 <= self.rank < self.size:
            raise ValueError(f"rank is {self.rank}; the mesh has ranks 0 to {self.size - 1}")

    @property
    def size(self) -> int:
        return self.dp * self.pp * self.cp * self.tp

    def group(self, name: str) -> Group:
        """The group of this rank along axis `name`: dp, pp, cp, tp, ep, or world."""
        if name == "world":
            return Group("world", tuple(range(self.size)), self.rank)
        if name == "ep":
            return self._expert_group()
        sizes = {"tp": self.tp, "cp": self.cp, "pp": self.pp, "dp": self.dp}
        if name not in sizes:
            raise ValueError(f"no group {name!r}; groups: dp, pp, cp, tp, ep, world")
        stride = 1
        for axis, size in sizes.items():
            if axis == name:
                break
            stride *= size
        position = self.rank // stride % sizes[name]
        first = self.rank - position * stride
        return Group(name, tuple(first + i * stride for i in range(sizes[name])), position)

    def _expert_group(self) -> Group:
        """Ranks of one pipeline stage, in order, cut into pieces of `ep`."""
        inner = self.cp * self.tp
        stage = self.rank // inner % self.pp
        peers = [r for r in range(self.size) if r // inner % self.pp == stage]
        at = peers.index(self.rank)
        first = at // self.ep * self.ep
        return Group("ep", tuple(peers[first : first + self.ep]), at - first)
