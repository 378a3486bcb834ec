"""The gated MLP: down(act(gate(x)) * up(x))."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from inferplane.plugins.site import Site
from inferplane.spec import GatedMLPRequest

from .builder import Builder


@dataclass(frozen=True, slots=True, kw_only=True)
class MLPConfig:
    """Sizes before sharding."""

    hidden: int
    intermediate: int
    activation: str = "silu"
    limit: float = 0.0
    bias: bool = False


class GatedMLP:
    """The reference composition. Owns the reduction after the row-sharded projection."""

    def __init__(self, config: MLPConfig, build: Builder, reduce: bool = True) -> None:
        sizes = {"gate_proj": config.intermediate, "up_proj": config.intermediate}
        share = config.intermediate // build.context.mesh.tp
        self.gate_up = build.linear(
            "gate_up_proj", config.hidden, sizes, bias=config.bias, sharding="column"
        )
        self.activation = build.activation(config.activation, share, config.limit)
        self.down = build.linear(
            "down_proj",
            config.intermediate,
            {"down_proj": config.hidden},
            bias=config.bias,
            sharding="row",
        )
        self.reduce = build.all_reduce(config.hidden) if reduce else None

    def __call__(self, x_TC: Any) -> Any:
        x_TC = self.down(self.activation(self.gate_up(x_TC)))
        return x_TC if self.reduce is None else self.reduce(x_TC)


def gated_mlp(build: Builder, name: str, config: MLPConfig, reduce: bool = True) -> Any:
    """The MLP block: the composition above, or a larger kernel. reduce: sums over the ranks."""

    def request(sites: list[Site]) -> GatedMLPRequest | None:
        gate_up, activation, down = (site.request for site in sites[:3])
        if not gate_up:  # parts with schemes of their own
            return None
        return GatedMLPRequest(
            device=build.context.props,
            gate_up=gate_up,  # type: ignore[arg-type]
            activation=activation,  # type: ignore[arg-type]
            down=down,  # type: ignore[arg-type]
        )

    return build.compose(name, lambda inner: GatedMLP(config, inner, reduce), request)
