"""The mixture of experts. Legend: T tokens, C hidden, X experts, E experts a token."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from inferplane.plugins.site import Site, WeightNeed
from inferplane.spec import GatedMLPRequest, MoEBlockRequest, RoutingRequest, WeightPart

from .builder import Builder
from .experts import ExpertsConfig, grouped_experts
from .mlp import MLPConfig, gated_mlp


@dataclass(frozen=True, slots=True, kw_only=True)
class MoEConfig:
    """router: name of its projection; router_bias: it has a bias; precise: it computes in fp32.
    correction: name of the bias that moves the choice only, "" for none. The rest is as in
    `RoutingRequest`. shared: intermediate size of the shared experts' MLP, 0 for none;
    shared_experts: how many experts it is made of.
    """

    experts: ExpertsConfig
    router: str = "gate"
    router_bias: bool = False
    precise: bool = False
    scoring: Literal["softmax", "sigmoid"] = "softmax"
    renormalize: bool = True
    correction: str = ""
    groups: int = 0
    top_groups: int = 0
    group_score: Literal["max", "top2"] = "top2"
    scaling: float = 1.0
    shared: int = 0
    shared_experts: int = 0
    shared_path: str = "shared_experts"


class MoE:
    """Router, routing, experts, shared experts: the reference composition. Owns the reduction."""

    def __init__(self, config: MoEConfig, build: Builder) -> None:
        c, fused = config, _fused(config, build)
        experts = c.experts
        if fused:
            experts = replace(experts, shared=c.shared_experts, shared_path=c.shared_path)
        self.precise = c.precise
        self.router = build.linear(
            c.router,
            experts.hidden,
            {c.router: experts.experts},
            bias=c.router_bias,
            dtype="fp32" if c.precise else "",
            plain=True,
        )
        self.route, self.bias_X = routing(build, c, experts)
        self.experts = grouped_experts(build, "experts", experts)
        self.shared: Any = None
        if c.shared and not fused:
            mlp = MLPConfig(
                hidden=experts.hidden, intermediate=c.shared, activation=experts.activation
            )
            self.shared = gated_mlp(build, c.shared_path, mlp, reduce=False)
        self.reduce = build.all_reduce(experts.hidden)

    def __call__(self, x_TC: Any) -> Any:
        logits_TX = self.router(x_TC.float() if self.precise else x_TC)
        bias = () if self.bias_X is None else (self.bias_X,)
        weights_TE, experts_TE = self.route(logits_TX, *bias)
        y_TC = self.experts(x_TC, weights_TE, experts_TE)
        if self.shared is not None:
            y_TC += self.shared(x_TC)
        return y_TC if self.reduce is None else self.reduce(y_TC)


def _fused(config: MoEConfig, build: Builder) -> bool:
    """Whether shared experts are computed with the others."""
    whole = config.shared == config.shared_experts * config.experts.intermediate
    return build.context.fuse_shared_experts and config.shared_experts > 0 and whole


def routing(build: Builder, config: MoEConfig, experts: ExpertsConfig) -> tuple[Any, Any]:
    """(the kernel, the correction bias fp32 [X] or None)."""
    request = RoutingRequest(
        device=build.context.props,
        experts=experts.experts,
        top_k=experts.top_k,
        dtype="fp32" if config.precise else build.context.dtype,
        scoring=config.scoring,
        renormalize=config.renormalize,
        bias=bool(config.correction),
        groups=config.groups,
        top_groups=config.top_groups,
        group_score=config.group_score,
        scaling=config.scaling,
        shared=experts.shared,
    )
    needs = []
    if config.correction:
        key, shape = f"{build.prefix}{config.correction}", (experts.experts,)
        part = WeightPart(name="bias", key=key, full_shape=shape, offset=(0,), shape=shape)
        needs = [WeightNeed("bias", (part,), "fp32")]
    return build.kernel("route", request, needs)


def moe_block(build: Builder, name: str, config: MoEConfig) -> Any:
    """The MoE block: the composition above, or a larger kernel."""

    def request(sites: list[Site]) -> MoEBlockRequest | None:
        router, route, experts = (site.request for site in sites[:3])
        shared = next((s.request for s in sites if isinstance(s.request, GatedMLPRequest)), None)
        if config.shared and shared is None and not _fused(config, build):
            return None  # a shared MLP whose parts have schemes of their own
        return MoEBlockRequest(
            device=build.context.props,
            router=router,  # type: ignore[arg-type]
            routing=route,  # type: ignore[arg-type]
            experts=experts,  # type: ignore[arg-type]
            shared=shared,
        )

    return build.compose(name, lambda inner: MoE(config, inner), request)
