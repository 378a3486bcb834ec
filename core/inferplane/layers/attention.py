"""The attention block. Legend: T tokens, C hidden, H query heads, K kv heads, D head size,
X = (H + 2K) * D. Heads are this rank's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from inferplane.errors import UserError
from inferplane.plugins.site import Site
from inferplane.spec import (
    AttentionBlockRequest,
    AttentionInputRequest,
    AttentionRequest,
    GroupKind,
    Step,
)

from .builder import Builder
from .rotary import Rope


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionConfig:
    """Sizes before sharding. window: tokens read, 0 for all. qk_norm_eps: None for no q/k norm.
    sinks: a learned logit a head that takes probability."""

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    rope: Rope
    window: int = 0
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm_eps: float | None = None
    softcap: float = 0.0
    sinks: bool = False

    def request(self, build: Builder) -> AttentionRequest:
        context, tp = build.context, build.context.mesh.tp
        if self.heads % tp or self.kv_heads % tp:
            raise UserError(
                f"{self.heads} heads and {self.kv_heads} kv heads cannot be cut by {tp}"
            )
        return AttentionRequest(
            device=context.props,
            heads=self.heads // tp,
            kv_heads=self.kv_heads // tp,
            head_dim=self.head_dim,
            dtype=context.dtype,
            kv_dtype=context.kv_dtype,
            page_size=context.page_size,
            scale=self.head_dim**-0.5,
            kind=GroupKind.WINDOW if self.window else GroupKind.FULL,
            window=self.window,
            softcap=self.softcap,
            sinks=self.sinks,
            kv_scales=build.has_kv_scales(),
        )


class AttentionInput:
    """q/k norm, rotary, KV write: the reference composition of "attention.input"."""

    def __init__(self, config: AttentionConfig, request: AttentionRequest, build: Builder) -> None:
        self.heads, self.kv_heads = request.heads, request.kv_heads
        self.head_dim = config.head_dim
        eps = config.qk_norm_eps
        self.q_norm: Any = None
        self.k_norm: Any = None
        if eps is not None:
            self.q_norm = build.rms_norm("q_norm", config.head_dim, eps)
            self.k_norm = build.rms_norm("k_norm", config.head_dim, eps)
        self.rotary = build.rotary(config.rope, request.heads, request.kv_heads, config.head_dim)
        self.write = build.kv_write(request)

    def __call__(self, qkv_TX: Any, cache: Any, slots_T: Any, state: Any) -> Any:
        x_TAD = qkv_TX.view(qkv_TX.shape[0], -1, self.head_dim)
        q_THD, k_TKD, v_TKD = x_TAD.split((self.heads, self.kv_heads, self.kv_heads), dim=1)
        if self.q_norm is not None:
            q_THD, k_TKD = self.q_norm(q_THD), self.k_norm(k_TKD)
        self.rotary(q_THD, k_TKD, state)
        self.write(k_TKD, v_TKD, cache, slots_T)
        return q_THD, k_TKD, v_TKD


class Attention:
    """Projections, input, attention, output projection: the reference composition."""

    def __init__(self, config: AttentionConfig, build: Builder) -> None:
        request = config.request(build)
        self.heads, self.out_dim = request.heads, request.out_dim
        sizes = {
            "q_proj": config.heads * config.head_dim,
            "k_proj": config.kv_heads * config.head_dim,
            "v_proj": config.kv_heads * config.head_dim,
        }
        self.qkv = build.linear(
            "qkv_proj", config.hidden, sizes, bias=config.qkv_bias, sharding="column"
        )
        self.input = attention_input(build, config, request)
        self.slot, self.extras = build.attention_slot(request)
        self.out = build.linear(
            "o_proj",
            config.heads * request.out_dim,
            {"o_proj": config.hidden},
            bias=config.out_bias,
            sharding="row",
        )
        self.reduce = build.all_reduce(config.hidden)
        if build.context.building:
            stepping = getattr(self.input, "kernel", None) or self.input.rotary
            self.slot.rotary = build.rotary_state(stepping, config.rope)

    def __call__(self, x_TC: Any, step: Step) -> Any:
        slot = self.slot
        group = step.groups[slot.group]
        q_THD, k_TKD, v_TKD = self.input(
            self.qkv(x_TC), slot.cache, group.slots, step.rotary[slot.rotary]
        )
        out_TX = x_TC.new_empty((x_TC.shape[0], self.heads * self.out_dim))
        out_THD = out_TX.view(-1, self.heads, self.out_dim)
        slot.kernel.run(q_THD, k_TKD, v_TKD, slot.cache, group.plan, out_THD, **self.extras)
        y_TC = self.out(out_TX)
        return y_TC if self.reduce is None else self.reduce(y_TC)


def attention_input(build: Builder, config: AttentionConfig, attention: AttentionRequest) -> Any:
    """Between projection and attention: the composition above, or one fused kernel."""

    def request(sites: list[Site]) -> AttentionInputRequest:
        by_op = {site.request.op: site.request for site in sites if site.request}
        return AttentionInputRequest(
            device=build.context.props,
            rotary=by_op["rotary"],  # type: ignore[arg-type]
            write=by_op["kv.write"],  # type: ignore[arg-type]
            qk_norm=by_op.get("norm.rms"),  # type: ignore[arg-type]
        )

    def parts(inner: Builder) -> AttentionInput:
        return AttentionInput(config, attention, inner)

    # checkpoints name the q/k norms beside the projections
    return build.compose("input", parts, request, flat=True)


def attention_block(build: Builder, name: str, config: AttentionConfig) -> Any:
    """The attention block: the composition above, or a larger kernel."""

    def request(sites: list[Site]) -> AttentionBlockRequest | None:
        qkv, inputs, attention, out = (site.request for site in sites[:4])
        if not qkv or not out:  # parts with schemes of their own
            return None
        return AttentionBlockRequest(
            device=build.context.props,
            qkv=qkv,  # type: ignore[arg-type]
            input=inputs,  # type: ignore[arg-type]
            attention=attention,  # type: ignore[arg-type]
            out=out,  # type: ignore[arg-type]
        )

    return build.compose(name, lambda inner: Attention(config, inner), request)
