"""Latent attention (MLA) in its absorbed form. Source: DeepSeek-V2, arXiv 2405.04434, section 2.1.

The cache keeps one vector a token: a latent vector that keys and values of all heads come from, and
a rotated key that all heads share. Instead of making keys and values out of the latent vectors,
queries are taken into the latent space, and results out of it.

Legend: T tokens, C hidden, H heads (this rank's), R size of the latent vector, N and P parts of a
head's query and key without and with rotary, V value size of a head, L = R + P.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from inferplane.errors import UserError
from inferplane.plugins.site import Site
from inferplane.spec import (
    AttentionRequest,
    GroupKind,
    LatentBlockRequest,
    Request,
    Step,
    WeightPart,
)

from .builder import Builder
from .rotary import Rope, latent_scale

_EPS = 1e-6  # of the norms of latent vectors, whatever the model's other norms have


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentConfig:
    """Sizes before sharding. q_rank: of the query's latent vector, 0 for none. rope: of rope_dim
    elements. bias: of the projections into latent spaces, and of the last one."""

    hidden: int
    heads: int
    q_rank: int
    kv_rank: int
    nope_dim: int
    rope_dim: int
    value_dim: int
    rope: Rope
    bias: bool = False

    @property
    def query_dim(self) -> int:
        return self.nope_dim + self.rope_dim

    def request(self, build: Builder) -> AttentionRequest:
        context, tp = build.context, build.context.mesh.tp
        if self.heads % tp:
            raise UserError(f"{self.heads} heads cannot be cut by {tp} (--tp)")
        return AttentionRequest(
            device=context.props,
            heads=self.heads // tp,
            kv_heads=1,
            head_dim=self.kv_rank + self.rope_dim,
            dtype=context.dtype,
            kv_dtype=context.kv_dtype,
            page_size=context.page_size,
            scale=self.query_dim**-0.5 * latent_scale(self.rope),
            kind=GroupKind.LATENT,
            value_dim=self.kv_rank,
            kv_scales=build.has_kv_scales(),
        )


class LatentAttention:
    """The reference composition. Owns the reduction after the row-sharded projection."""

    def __init__(self, config: LatentConfig, build: Builder) -> None:
        c, request = config, config.request(build)
        self.config, self.heads = c, request.heads
        self.q_a: Any = None
        inputs, name = c.hidden, "q_proj"
        if c.q_rank:
            self.q_a = build.linear("q_a_proj", c.hidden, {"q_a_proj": c.q_rank}, bias=c.bias)
            self.q_norm = build.rms_norm("q_a_layernorm", c.q_rank, _EPS)
            inputs, name = c.q_rank, "q_b_proj"
        self.q = build.linear(name, inputs, {name: c.heads * c.query_dim}, sharding="column")
        latent = "kv_a_proj_with_mqa"
        self.kv_a = build.linear(latent, c.hidden, {latent: request.head_dim}, bias=c.bias)
        self.kv_norm = build.rms_norm("kv_a_layernorm", c.kv_rank, _EPS)
        self.rotary = build.rotary(c.rope, self.heads, 1, c.rope_dim)
        self.write = build.kv_write(request)
        self.enter = build.heads_linear(
            "w_uk", self.heads, c.nope_dim, c.kv_rank, _keys(build, config)
        )
        self.slot, self.extras = build.attention_slot(request)
        self.leave = build.heads_linear(
            "w_uv", self.heads, c.kv_rank, c.value_dim, _values(build, config)
        )
        self.out = build.linear(
            "o_proj", c.heads * c.value_dim, {"o_proj": c.hidden}, bias=c.bias, sharding="row"
        )
        self.reduce = build.all_reduce(c.hidden)
        if build.context.building:
            self.slot.rotary = build.rotary_state(self.rotary, c.rope)

    def __call__(self, x_TC: Any, step: Step) -> Any:
        import torch

        c, slot = self.config, self.slot
        group, tokens = step.groups[slot.group], x_TC.shape[0]
        q_TX = self.q(x_TC if self.q_a is None else self.q_norm(self.q_a(x_TC)))
        q_THN, q_THP = q_TX.view(tokens, self.heads, -1).split((c.nope_dim, c.rope_dim), dim=-1)
        k_TL = self.kv_a(x_TC)
        k_TR = k_TL[:, : c.kv_rank]
        k_TR.copy_(self.kv_norm(k_TR))
        k_T1L = k_TL.unsqueeze(1)
        self.rotary(q_THP, k_T1L[..., c.kv_rank :], step.rotary[slot.rotary])
        v_T1R = k_T1L[..., : c.kv_rank]
        self.write(k_T1L, v_T1R, slot.cache, group.slots)
        q_THL = torch.cat([self.enter(q_THN), q_THP], dim=-1)
        out_THR = x_TC.new_empty((tokens, self.heads, c.kv_rank))
        slot.kernel.run(q_THL, k_T1L, v_T1R, slot.cache, group.plan, out_THR, **self.extras)
        y_TC = self.out(self.leave(out_THR).reshape(tokens, -1))
        return y_TC if self.reduce is None else self.reduce(y_TC)


def _keys(build: Builder, config: LatentConfig) -> WeightPart:
    """[H, R, N]: what makes a head's keys out of a latent vector, transposed."""
    c = config
    shape, rows = (c.heads, c.kv_rank, c.nope_dim), f"rows:0:{c.nope_dim}"
    return _heads_part(build, c, shape, (rows, "transpose"))


def _values(build: Builder, config: LatentConfig) -> WeightPart:
    """[H, V, R]: what makes a head's values out of a latent vector."""
    c = config
    rows = f"rows:{c.nope_dim}:{c.nope_dim + c.value_dim}"
    return _heads_part(build, c, (c.heads, c.value_dim, c.kv_rank), (rows,))


def _heads_part(
    build: Builder, config: LatentConfig, full: tuple[int, ...], view: tuple[str, ...]
) -> WeightPart:
    """This rank's heads of a view of kv_b_proj, whose rows are keys and values, head by head."""
    tp = build.context.mesh.group("tp")
    heads = config.heads // tp.size
    return WeightPart(
        name="weight",
        key=f"{build.prefix}kv_b_proj.weight",
        full_shape=full,
        offset=(heads * tp.rank, 0, 0),
        shape=(heads, *full[1:]),
        view=(f"split:{config.heads}", *view),
        stored=(config.heads * (config.nope_dim + config.value_dim), config.kv_rank),
    )


def latent_block(build: Builder, name: str, config: LatentConfig) -> Any:
    """The block of latent attention: the composition above, or a larger kernel."""

    def request(sites: list[Site]) -> LatentBlockRequest | None:
        parts = [site.request for site in sites]
        if None in parts:  # parts with schemes of their own
            return None
        found: tuple[Request, ...] = tuple(parts)  # type: ignore[arg-type]
        return LatentBlockRequest(
            device=build.context.props,
            hidden=config.hidden,
            heads=config.heads // build.context.mesh.tp,
            q_rank=config.q_rank,
            kv_rank=config.kv_rank,
            nope_dim=config.nope_dim,
            rope_dim=config.rope_dim,
            value_dim=config.value_dim,
            dtype=build.context.dtype,
            parts=found,
        )

    return build.compose(name, lambda inner: LatentAttention(config, inner), request)
