"""Blocks and layers, built by the product's own builder: once around the kernel under test, and
once out of reference kernels in fp64 on the host."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from inferplane.layers.attention import AttentionConfig
from inferplane.layers.builder import Builder
from inferplane.layers.context import BuildContext
from inferplane.layers.mlp import MLPConfig
from inferplane.layers.rotary import Rope
from inferplane.models.config import DecoderConfig
from inferplane.plugins.resolution import Resolver, is_reference
from inferplane.plugins.site import Site
from inferplane.spec import AttentionRequest, Candidate, KVLayout, Request, standard_layout

from .target import HOST, Target

if TYPE_CHECKING:
    import torch

    from inferplane.spec import WeightPart

Make = Callable[[Builder, "Sizes"], Any]


@dataclass(frozen=True)
class Sizes:
    """What a block is made of. index: of the layer. rows and style: see `paging.lay_out`."""

    hidden: int = 64
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    intermediate: int = 96
    activation: str = "silu"
    limit: float = 0.0
    bias: bool = False
    qk_norm: bool = False
    rotary_dim: int = 0
    rotary_style: str = "neox"
    window: int = 0
    index: int = 1
    rows: tuple[tuple[int, int], ...] = ((5, 1), (0, 9))
    style: str = "scattered"

    @property
    def tokens(self) -> int:
        return sum(new for _, new in self.rows)

    @property
    def rope(self) -> Rope:
        style: Any = self.rotary_style
        return Rope(self.rotary_dim or self.head_dim, style=style)

    def attention(self) -> AttentionConfig:
        return AttentionConfig(
            hidden=self.hidden,
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            rope=self.rope,
            window=self.window,
            qkv_bias=self.bias,
            out_bias=self.bias,
            qk_norm_eps=1e-6 if self.qk_norm else None,
        )

    def mlp(self) -> MLPConfig:
        return MLPConfig(
            hidden=self.hidden,
            intermediate=self.intermediate,
            activation=self.activation,
            limit=self.limit,
            bias=self.bias,
        )

    def decoder(self) -> DecoderConfig:
        return DecoderConfig(
            architecture="Qwen3ForCausalLM",
            vocab=96,
            hidden=self.hidden,
            intermediate=self.intermediate,
            layers=self.index + 1,
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            norm_eps=1e-6,
            rope=self.rope,
            max_positions=4096,
            activation=self.activation,
            qkv_bias=self.bias,
            out_bias=self.bias,
            mlp_bias=self.bias,
            qk_norm=self.qk_norm,
            windows=(self.window,) * (self.index + 1),
        )


@dataclass
class Built:
    """A block that can be called. resolver: chose its kernels."""

    made: Any
    context: BuildContext
    resolver: Resolver

    def layout(self, request: AttentionRequest) -> KVLayout:
        return self.context.layout_of(request)


def _context(target: Target, resolver: Resolver, dtype: str, page: int, last: int) -> BuildContext:
    def layout_of(request: AttentionRequest) -> KVLayout:
        choice = resolver.choose(request)
        layout = choice.candidate.layout if choice.found else None
        return layout(request) if layout else standard_layout(request)

    return BuildContext(
        props=HOST if dtype == "fp64" else target.props,
        dtype=dtype,
        kv_dtype=dtype,
        page_size=page,
        layout_of=layout_of,
        max_positions=last,
    )


def request_of(
    op: str, target: Target, candidate: Candidate, make: Make, sizes: Sizes, dtype: str, page: int
) -> Request:
    """What the builder would ask for this block. No torch."""
    resolver = Resolver(parts_for(target, candidate))
    context = replace(_context(target, resolver, dtype, page, 1), props=target.props)
    build = Builder(context, layer=sizes.index)
    make(build, sizes)
    return next(s.request for s in build.site.walk() if s.request and s.request.op == op)


def build_block(
    target: Target,
    candidates: Sequence[Candidate],
    make: Make,
    sizes: Sizes,
    page: int,
    dtype: str,
    weights: Weights,
    device: torch.device,
) -> Built:
    """dtype "fp64" gives the oracle: the weights are those of the kernel's dtype, widened."""
    from inferplane.layers.source import SharedTensors, SiteSource

    resolver = Resolver(candidates)
    last = max(before + new for before, new in sizes.rows)
    context = _context(target, resolver, dtype, page, last)
    recorder = Builder(context, layer=sizes.index)
    make(recorder, sizes)
    resolution = resolver.resolve(recorder.site)
    resolution.check("a block of the kit", target.props.name)
    shared = SharedTensors(recorder.site)

    def source(site: Site) -> SiteSource:
        return SiteSource(site, weights, device, shared)

    context = replace(
        _context(target, resolver, dtype, page, last),
        resolution=resolution,
        source=source,
        device=device,
    )
    return Built(make(Builder(context, layer=sizes.index), sizes), context, resolver)


def parts_for(target: Target, candidate: Candidate) -> list[Candidate]:
    """The candidate, the platform's attention (which owns the cache), and reference kernels."""
    attention = [c for c in target.offers("attention") if c.layout is not None]
    writes = list(target.offers("kv.write")) if attention else []
    return [candidate, *attention, *writes, *references(target)]


def references(target: Target) -> list[Candidate]:
    return [c for c in target.catalog.candidates if is_reference(c)]


class Weights:
    """Random tensors by name, rounded to a dtype: a slice is a slice of the whole tensor."""

    def __init__(self, seed: int, dtype: str) -> None:
        self.seed, self.dtype = seed, dtype

    def read(self, part: WeightPart) -> torch.Tensor:
        from .numbers import Numbers

        draw = Numbers(self.seed + zlib.crc32(part.key.encode()))
        whole = draw.weight(*part.full_shape, dtype=self.dtype)
        if part.key.endswith(".bias"):
            whole = whole - 1
        cut = tuple(slice(o, o + n) for o, n in zip(part.offset, part.shape, strict=True))
        return whole[cut]
