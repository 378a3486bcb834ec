"""Makes layers out of what resolution chose; or, without torch, records what they would ask for.

The same constructor code of a model runs twice: first with a recording builder, whose methods note
a `Site` and give None, then with a building one, whose methods give callables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from inferplane.errors import UserError
from inferplane.plugins.binding import bind, make
from inferplane.plugins.site import Site, WeightNeed
from inferplane.spec import (
    ActivationRequest,
    AttentionRequest,
    AttentionSlot,
    CollectiveRequest,
    EmbeddingRequest,
    GroupKind,
    HeadsLinearRequest,
    KVWriteRequest,
    LinearRequest,
    NormRequest,
    Packed,
    QuantScheme,
    Request,
    RotaryRequest,
    WeightPart,
)

from .context import BuildContext
from .embedding import Embedding
from .linear import Linear, Split, by_tokens
from .norm import AddNorm, FirstNorm, Norm
from .parts import rows_need, scales_need, whole
from .rotary import Rope, table
from .scheme_parts import can_fuse, scheme_needs
from .wrappers import Block

T = TypeVar("T")
Extras = dict[str, Any]  # arguments of a call that only some requests have


class Builder:
    """One scope of the model: a path, the site tree, and the weights under the path."""

    def __init__(
        self, context: BuildContext, site: Site | None = None, layer: int = -1, prefix: str = ""
    ) -> None:
        self.context = context
        self.site = site or Site("")
        self.layer = layer
        self.prefix = prefix

    # scopes and composites

    def at(self, name: str) -> Builder:
        """The scope below this one. Only its path differs: it is not a site of its own."""
        return Builder(self.context, self.site, self.layer, self._path(name) + ".")

    def _path(self, name: str) -> str:
        return f"{self.prefix}{name}"

    def compose(
        self,
        name: str,
        make_parts: Callable[[Builder], T],
        request: Callable[[list[Site]], Request | None],
        *,
        layer: int | None = None,
        flat: bool = False,
    ) -> T | Any:
        """A composite: `make_parts` builds it of smaller ones; a larger candidate may replace it.

        request: the composite's request, out of the sites that its parts recorded.
        flat: the parts' weights are named as if the composite had no name of its own.
        """
        at = self.layer if layer is None else layer
        path = self._path(name)
        prefix = self.prefix if flat else path + "."
        inner = Builder(self.context, Site(path, layer=at), at, prefix)
        if self._replaced(inner.site.path):
            return self._larger(inner, make_parts)
        made = make_parts(inner)
        inner.site.request = request(inner.site.children)
        self.site.children.append(inner.site)
        return made

    def _replaced(self, path: str) -> bool:
        resolution = self.context.resolution
        return resolution is not None and path in resolution.choices

    def _larger(self, inner: Builder, make_parts: Callable[[Builder], Any]) -> Any:
        """The chosen larger kernel. Its parts are recorded for their weights, and for the slot."""
        context = self.context
        assert context.resolution is not None
        recording = replace(context, resolution=None)
        recorder = Builder(recording, inner.site, inner.layer, inner.prefix)
        make_parts(recorder)
        self.site.children.append(inner.site)

        def block(kernel: Any, packed: Packed) -> Block:
            slot = None
            for site in inner.site.walk():
                if isinstance(site.request, AttentionRequest):
                    slot = self._slot(site, site.request)
                    slot.rotary = self._rotary_of(inner.site, kernel)
            return Block(kernel, packed, slot)

        choice = context.resolution.choices[inner.site.path]
        return by_tokens(
            choice, lambda kernel: self._prepare(inner.site, kernel), block, context.trial
        )

    def _rotary_of(self, site: Site, kernel: Any) -> int:
        """The rotary state of a composite: of its own `step`, or of the rotary op in it."""
        assert self.context.resolution is not None
        for inner in site.walk():
            if isinstance(inner.request, RotaryRequest):
                if not hasattr(kernel, "step"):
                    kernel = make(
                        self.context.resolution.inner[inner.path].candidate, inner.request
                    )
                return self.rotary_state(kernel, self.context.ropes[inner.path])
        return 0

    # leaves

    def linear(
        self,
        name: str,
        inputs: int,
        parts: dict[str, int],
        *,
        bias: bool = False,
        sharding: str = "none",
        tied_to: str = "",
        dtype: str = "",
        plain: bool = False,
    ) -> Any:
        """parts: logical outputs, by their names in the checkpoint, with their rows. dtype: to
        compute in, where it is not the model's. plain: never quantized while loading."""
        paths = {part: f"{self.prefix}{part}" for part in parts}
        shards = self.context.mesh.tp if sharding == "column" else 1
        schemes = {part: self._scheme(path, inputs, plain) for part, path in paths.items()}
        if not can_fuse(schemes, parts, shards):
            split: dict[str, Any] = {"bias": bias, "sharding": sharding, "dtype": dtype}
            split["plain"] = plain
            return self.compose(
                name,
                lambda inner: Split(
                    [inner.linear(part, inputs, {part: n}, **split) for part, n in parts.items()]
                ),
                lambda sites: None,
                flat=True,
            )
        scheme = next(iter(schemes.values()))
        tp = self.context.mesh.group("tp")
        if bias and sharding == "row" and tp.size > 1:
            path = self._path(name)
            raise UserError(f"{path} has a bias, which each of {tp.size} ranks would add (--tp)")
        dtype = dtype or self.context.dtype
        request = LinearRequest(
            device=self.context.props,
            in_features=inputs,
            out_features=sum(parts.values()),
            dtype=dtype,
            parts=tuple(parts.values()),
            bias=bias,
            scheme=scheme,
            sharding=sharding,  # type: ignore[arg-type]
            shards=tp.size if sharding != "none" else 1,
        )
        named = {paths[part]: rows for part, rows in parts.items()}
        site = self._leaf(name, request)
        site.weights += scheme_needs(scheme, named, inputs, dtype, sharding, tp, tied_to)
        if bias:
            site.weights.append(rows_need("bias", named, 0, dtype, sharding, tp, ""))
        return self._weighted(site)

    def _scheme(self, path: str, inputs: int, plain: bool) -> QuantScheme:
        return self.context.scheme_of(path, inputs, plain)

    def heads_linear(
        self, name: str, heads: int, inputs: int, outputs: int, weight: WeightPart
    ) -> Any:
        """One matrix a head. weight: [heads, outputs, inputs], usually a view of a projection's."""
        request = HeadsLinearRequest(
            device=self.context.props,
            heads=heads,
            inputs=inputs,
            outputs=outputs,
            dtype=self.context.dtype,
        )
        return self.weighted(name, request, [WeightNeed("weight", (weight,), self.context.dtype)])

    def weighted(
        self, name: str, request: Request, needs: list[WeightNeed], layer: Any = Linear
    ) -> Any:
        """A layer whose kernel prepares these tensors."""
        site = self._leaf(name, request)
        site.weights += needs
        return self._weighted(site, layer)

    def kernel(self, name: str, request: Request, needs: list[WeightNeed]) -> tuple[Any, Any]:
        """(a kernel without weights of its own, what the one need reads, or None)."""
        site = self._leaf(name, request)
        site.weights += needs
        if not self.context.building:
            return None, None
        return self._kernel(site), self._read(site, needs[0].name) if needs else None

    def _weighted(self, site: Site, layer: Any = Linear) -> Any:
        """The layer of a site whose kernel prepares weights."""
        if not self.context.building:
            return None
        return by_tokens(
            self._choice(site),
            lambda kernel: self._prepare(site, kernel),
            layer,
            self.context.trial,
        )

    def embedding(self, name: str, vocab: int, size: int, scale: float = 1.0) -> Any:
        request = EmbeddingRequest(
            device=self.context.props, vocab=vocab, size=size, dtype=self.context.dtype, scale=scale
        )
        site = self._leaf(name, request)
        site.weights.append(whole("weight", self._path(name), (vocab, size), self.context.dtype))
        return self._weighted(site, Embedding)

    def rms_norm(self, name: str, size: int, eps: float) -> Norm | Any:
        site = self._norm_site(name, "norm.rms", size, eps)
        if not self.context.building:
            return None
        return Norm(self._kernel(site), self._read(site, "weight"))

    def add_norm(
        self, name: str, size: int, eps: float, *, first: bool = False
    ) -> AddNorm | FirstNorm | Any:
        """RMS norm of x + residual. first: there is no residual yet, so of x alone."""
        both = self._norm_site(name, "norm.rms" if first else "norm.add_rms", size, eps)
        if not self.context.building:
            return None
        weight = self._read(both, "weight")
        return (FirstNorm if first else AddNorm)(self._kernel(both), weight)

    def _norm_site(self, name: str, op: str, size: int, eps: float) -> Site:
        request = NormRequest(
            op=op, device=self.context.props, size=size, dtype=self.context.dtype, eps=eps
        )
        site = self._leaf(name, request)
        site.weights.append(whole("weight", self._path(name), (size,), self.context.dtype))
        return site

    def activation(self, kind: str, size: int, limit: float = 0.0) -> Any:
        request = ActivationRequest(
            device=self.context.props, size=size, dtype=self.context.dtype, kind=kind, limit=limit
        )
        return self._maybe(self._leaf("act", request))

    def rotary(self, rope: Rope, heads: int, kv_heads: int, head_dim: int) -> Any:
        """The rotary kernel. Its state index comes from `rotary_state`."""
        request = RotaryRequest(
            device=self.context.props,
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            rotary_dim=rope.rotary_dim,
            dtype=self.context.dtype,
            style=rope.style,
        )
        site = self._leaf("rotary", request)
        self.context.ropes[site.path] = rope
        return self._maybe(site)

    def rotary_state(self, kernel: Any, rope: Rope) -> int:
        """The index in `Step.rotary` of this kernel's state for this embedding."""
        if not self.context.building:
            return 0
        key = (kernel.__class__, rope, getattr(kernel, "rotary_dim", rope.rotary_dim))
        index = self.context.rotary_index.setdefault(key, len(self.context.rotary_states))
        if index == len(self.context.rotary_states):
            tensor = table(rope, self.context.max_positions, self.context.device)
            self.context.rotary_states.append((kernel, tensor))
        return index

    def kv_write(self, attention: AttentionRequest) -> Any:
        layout = self.context.layout_of(attention)
        request = KVWriteRequest(
            device=self.context.props,
            layout=layout.name,
            kv_heads=attention.kv_heads,
            head_dim=attention.head_dim,
            dtype=attention.dtype,
            kv_dtype=attention.kv_dtype,
            page_size=attention.page_size,
            kv_scales=attention.kv_scales,
        )
        site = self._leaf("kv_write", request)
        scales = self._kv_scales(site, attention)
        kernel = self._maybe(site)
        return partial(kernel, **scales) if scales else kernel

    def attention_slot(self, request: AttentionRequest) -> tuple[AttentionSlot | Any, Extras]:
        """Attention itself, for this layer, and what `run` is given beside queries and cache."""
        site = self._leaf("attention", request)
        self.context.groups.add(self.layer, request, self.context.layout_of(request))
        extras = self._kv_scales(site, request)
        if request.sinks:
            tp = self.context.mesh.group("tp")
            heads = {self.prefix.rstrip("."): request.heads * tp.size}
            site.weights.append(rows_need("sinks", heads, 0, "fp32", "column", tp, ""))
            if self.context.building:
                extras["sinks_H"] = self._read(site, "sinks")
        return (self._slot(site, request) if self.context.building else None), extras

    def has_kv_scales(self) -> bool:
        """Whether this attention's cache has another type than its inputs, and scales for it."""
        context = self.context
        return context.kv_dtype != context.dtype and self._scale_names() is not None

    def _scale_names(self) -> tuple[str, str] | None:
        return self.context.kv_scales(self.prefix.rstrip("."))

    def _kv_scales(self, site: Site, request: AttentionRequest) -> Extras:
        names = self._scale_names() if request.kv_scales else None
        if names is None:
            return {}
        if request.kind is GroupKind.LATENT:  # values are a part of the keys
            names = names[0], names[0]
        site.weights.append(scales_need(names))
        return {"kv_scales": self._read(site, "kv_scales")} if self.context.building else {}

    def _slot(self, site: Site, request: AttentionRequest) -> AttentionSlot:
        """One kernel serves all layers with the same request."""
        groups = self.context.groups
        slot = AttentionSlot(kernel=self._kernel(site), group=groups.of(site.layer))
        groups.slots[site.layer] = slot
        return slot

    def all_reduce(self, width: int) -> Any:
        """Sums over the tensor-parallel group, or None where there is only one rank."""
        group = self.context.mesh.group("tp")
        if group.size == 1:
            return None
        request = CollectiveRequest(
            op="all_reduce", device=self.context.props, ranks=group.size, dtype=self.context.dtype
        )
        communicator = self._maybe(self._leaf("all_reduce", request))
        return communicator and (lambda x: communicator.all_reduce(x, group))

    # how a site becomes a kernel

    def _leaf(self, name: str, request: Request) -> Site:
        site = Site(self._path(name), request, self.layer)
        self.site.children.append(site)
        return site

    def _choice(self, site: Site) -> Any:
        assert self.context.resolution is not None
        return self.context.resolution.choices[site.path]

    def _kernel(self, site: Site) -> Any:
        """The bound kernel of a site; equal requests share one."""
        choice = self._choice(site)
        if choice.request not in self.context.kernels:
            self.context.kernels[choice.request] = bind(choice, self.context.trial)
        return self.context.kernels[choice.request]

    def _maybe(self, site: Site) -> Any:
        return self._kernel(site) if self.context.building else None

    def _read(self, site: Site, name: str) -> Any:
        assert self.context.source is not None
        tensor = self.context.source(site).read(name)
        self.context.packed_bytes += tensor.nbytes
        return tensor

    def _prepare(self, site: Site, kernel: Any) -> Packed:
        assert self.context.source is not None
        packed: Packed = kernel.prepare(self.context.source(site))
        self.context.packed_bytes += packed.final_bytes
        return packed
