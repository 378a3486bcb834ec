"""Requests of mixtures of experts: routing, grouped experts, their exchange, the whole block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from .quant import UNQUANTIZED, QuantScheme
from .requests import GatedMLPRequest, LinearRequest, Request


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingRequest(Request):
    """Chooses `top_k` of `experts` for each token, with weights.

    dtype: of the logits. scoring: "softmax" over all experts, or "sigmoid" of each.
    bias: a learned correction, added to the scores for the choice but not for the weights.
    groups, top_groups: experts are chosen within the best groups only; 0 for no groups.
    group_score: of a group, its best score ("max") or the sum of its two best ("top2").
    renormalize: the chosen weights sum to one. scaling: factor of the weights, after that.
    shared: experts that every token meets, with weight 1, appended behind the chosen ones as
    experts `experts`, `experts` + 1, ... (fused shared experts).
    Ties go to the lower expert. Sources: Mixtral (arXiv 2401.04088), DeepSeek-V2 (2405.04434),
    DeepSeek-V3 (2412.19437).
    """

    op: str = "moe.route"
    experts: int
    top_k: int
    dtype: str
    scoring: Literal["softmax", "sigmoid"] = "softmax"
    renormalize: bool = True
    bias: bool = False
    groups: int = 0
    top_groups: int = 0
    group_score: Literal["max", "top2"] = "top2"
    scaling: float = 1.0
    shared: int = 0

    def _semantics(self) -> Iterator[str]:
        if self.scoring != "softmax":
            yield self.scoring
        if not self.renormalize:
            yield "no_renormalize"
        if self.bias:
            yield "bias"
        if self.groups:
            yield "groups"
            if self.group_score == "max":
                yield "group_max"
        if self.scaling != 1.0:
            yield "scaling"
        if self.shared:
            yield "shared"

    def describe(self) -> str:
        words = [f"{self.scoring} top-{self.top_k} of {self.experts}"]
        if self.groups:
            words.append(f"in {self.top_groups} of {self.groups} groups")
        if self.bias:
            words.append("biased")
        if self.shared:
            words.append(f"and {self.shared} shared")
        return " ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertsRequest(Request):
    """The chosen experts' gated MLPs and their weighted sum. Experts are this rank's.

    top_k: experts a token. activation, limit: as in `ActivationRequest`. bias: of both projections.
    intermediate: this rank's. scheme: of all experts' weights, and of the inputs of both
    projections.
    """

    op: str = "moe.experts"
    experts: int
    top_k: int
    hidden: int
    intermediate: int
    dtype: str
    activation: str = "silu"
    limit: float = 0.0
    bias: bool = False
    scheme: QuantScheme = UNQUANTIZED

    def _semantics(self) -> Iterator[str]:
        yield self.activation
        if self.limit:
            yield "limit"
        if self.bias:
            yield "bias"
        yield from self.scheme.semantics()

    def describe(self) -> str:
        scheme = f" {self.scheme.name}" if self.scheme.quantized else ""
        sizes = f"E{self.experts} C{self.hidden} I{self.intermediate} top-{self.top_k}"
        return f"{self.dtype}{scheme} {sizes} {self.activation}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchRequest(Request):
    """Sends tokens to the ranks of their experts, and brings results back (all-to-all)."""

    op: str = "moe.dispatch"
    experts: int
    top_k: int
    hidden: int
    dtype: str
    ranks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MoEBlockRequest(Request):
    """Block: router, routing, experts, and shared experts that every token meets."""

    op: str = "moe.block"
    router: LinearRequest
    routing: RoutingRequest
    experts: ExpertsRequest
    shared: GatedMLPRequest | None = None

    def _semantics(self) -> Iterator[str]:
        yield from self.router.requires | self.routing.requires | self.experts.requires
        if self.shared is not None:
            yield "shared_experts"
            yield from self.shared.requires

    def describe(self) -> str:
        return f"{self.routing.describe()}, {self.experts.describe()}"
