"""Requests: what the model graph asks of a kernel, with real shapes and dtypes as names.

A request is frozen data. `requires` names every semantic in it that is not the plain default; the
core refuses a candidate that does not name them all in `features`, before `supports` is called.
So a plugin that was built before a feature existed can never compute without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, Self

from .device import DeviceProps
from .kv import GroupKind
from .quant import UNQUANTIZED, QuantScheme


@dataclass(frozen=True, slots=True)
class TokenRange:
    """How many tokens (M, rows of the input) a call may have, both ends included."""

    first: int = 1
    last: int = 1 << 30

    def __str__(self) -> str:
        if self == ANY_TOKENS:
            return "any"
        if self.first == self.last:
            return str(self.first)
        return f"{self.first}-{self.last}" if self.last < 1 << 30 else f"{self.first}+"


ANY_TOKENS = TokenRange()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Fields of every request. op: its key in `OPS`. extra: semantics that no field implies."""

    op: str
    device: DeviceProps
    tokens: TokenRange = ANY_TOKENS
    extra: frozenset[str] = frozenset()

    @property
    def requires(self) -> frozenset[str]:
        """Every non-default semantic of this request, by name."""
        return self.extra | frozenset(self._semantics())

    def _semantics(self) -> Iterator[str]:
        yield from ()

    def over(self, tokens: TokenRange) -> Self:
        """The same request for another token range."""
        return replace(self, tokens=tokens)

    def describe(self) -> str:
        """(optional) A few words for tables."""
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearRequest(Request):
    """y = x W^T + b. parts: logical outputs that share the input (q, k, v), in order.

    out_features is the sum of `parts`, all before sharding. sharding: how W is cut over `shards`
    ranks. adapters: LoRA slots that a call may address per token, 0 for none.
    """

    op: str = "linear"
    in_features: int
    out_features: int
    dtype: str
    parts: tuple[int, ...] = ()
    bias: bool = False
    scheme: QuantScheme = UNQUANTIZED
    sharding: Literal["none", "column", "row", "vocabulary"] = "none"
    shards: int = 1
    adapters: int = 0

    def _semantics(self) -> Iterator[str]:
        if self.bias:
            yield "bias"
        yield from self.scheme.semantics()
        if self.adapters:
            yield "adapters"

    def describe(self) -> str:
        scheme = f" {self.scheme.name}" if self.scheme.quantized else ""
        return f"{self.dtype}{scheme} {self.in_features}x{self.out_features}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadsLinearRequest(Request):
    """One matrix a head: y_h = x_h W_h. heads: this rank's. (MLA: in and out of the latent space.)

    inputs, outputs: sizes of one head's vectors.
    """

    op: str = "linear.heads"
    heads: int
    inputs: int
    outputs: int
    dtype: str

    def describe(self) -> str:
        return f"{self.dtype} H{self.heads} {self.inputs}x{self.outputs}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NormRequest(Request):
    """RMS norm over the last axis. op "norm.rms", or "norm.add_rms" which adds a residual first.

    weight_offset: added to the weight (1.0 for models that store weight - 1).
    """

    op: str = "norm.rms"
    size: int
    dtype: str
    eps: float
    weight_offset: float = 0.0

    def _semantics(self) -> Iterator[str]:
        if self.weight_offset:
            yield "weight_offset"

    def describe(self) -> str:
        return f"{self.dtype} {self.size}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RotaryRequest(Request):
    """Rotary embedding of queries and keys. rotary_dim: leading elements of a head that turn.

    style: "neox" turns element i with i + rotary_dim/2, "interleaved" turns neighbours.
    axes: position axes (3 for image positions). Scaling is in the table, not in the kernel.
    """

    op: str = "rotary"
    heads: int
    kv_heads: int
    head_dim: int
    rotary_dim: int
    dtype: str
    style: Literal["neox", "interleaved"] = "neox"
    axes: int = 1

    def _semantics(self) -> Iterator[str]:
        if self.style != "neox":
            yield self.style
        if self.rotary_dim != self.head_dim:
            yield "partial_rotary"
        if self.axes != 1:
            yield "multi_axis"

    def describe(self) -> str:
        return f"{self.dtype} H{self.heads} K{self.kv_heads} D{self.head_dim}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationRequest(Request):
    """A gate and its values, the two halves of the input's last axis. size: of one half.

    kind: always a required feature, so that a kernel never applies another function. "silu",
    "gelu", "gelu_tanh": act(gate) * up. "swigluoai" (gpt-oss): gate * sigmoid(1.702 gate) * (up+1).
    limit: gate is clamped from above and up on both sides before use, 0 for none.
    """

    op: str = "activation.gated"
    size: int
    dtype: str
    kind: str = "silu"
    limit: float = 0.0

    def _semantics(self) -> Iterator[str]:
        yield self.kind
        if self.limit:
            yield "limit"

    def describe(self) -> str:
        return f"{self.dtype} {self.kind} {self.size}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest(Request):
    """Rows of a table by token id."""

    op: str = "embedding"
    vocab: int
    size: int
    dtype: str
    scale: float = 1.0
    sharding: Literal["none", "vocabulary"] = "none"
    shards: int = 1

    def _semantics(self) -> Iterator[str]:
        if self.scale != 1.0:
            yield "scale"
        if self.sharding != "none":
            yield "sharded"

    def describe(self) -> str:
        return f"{self.dtype} {self.vocab:,}x{self.size}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionRequest(Request):
    """Paged attention of one layer. Heads are this rank's.

    kind: of the KV group. window: tokens a query reads, itself included; 0 for all.
    softcap: of the logits, 0 for none. sinks: a learned logit a head that takes probability.
    page_size: of the cache, in tokens.
    kv_scales: the cache holds key / scale and value / scale, with two numbers a layer.
    value_dim: size of a value, 0 for `head_dim`. In a LATENT group one vector a token is cached
    (kv_heads 1): all of its head_dim elements are the key, the first value_dim are the value.
    """

    op: str = "attention"
    heads: int
    kv_heads: int
    head_dim: int
    dtype: str
    kv_dtype: str
    page_size: int
    scale: float
    kind: GroupKind = GroupKind.FULL
    window: int = 0
    softcap: float = 0.0
    sinks: bool = False
    causal: bool = True
    value_dim: int = 0
    kv_scales: bool = False

    @property
    def out_dim(self) -> int:
        """Size of one head's result."""
        return self.value_dim or self.head_dim

    def _semantics(self) -> Iterator[str]:
        if self.kind in (GroupKind.LATENT, GroupKind.STATE):
            yield self.kind.value
        if self.window:
            yield "window"
        if self.softcap:
            yield "softcap"
        if self.sinks:
            yield "sinks"
        if not self.causal:
            yield "non_causal"
        if self.kv_dtype != self.dtype:
            yield "kv_dtype"
        if self.value_dim:
            yield "value_dim"
        if self.kv_scales:
            yield "kv_scales"

    def describe(self) -> str:
        window = f" W{self.window}" if self.window else ""
        heads = f"H{self.heads} K{self.kv_heads} D{self.head_dim}"
        return f"{self.dtype} {heads} P{self.page_size}{window}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KVWriteRequest(Request):
    """Writes keys and values of new tokens to their slots in a cache of one named layout.

    In the layout "latent" the one vector a token is its key; there is no value. kv_scales: what is
    written is key / scale and value / scale, with two numbers a layer.
    """

    op: str = "kv.write"
    layout: str
    kv_heads: int
    head_dim: int
    dtype: str
    kv_dtype: str
    page_size: int
    kv_scales: bool = False

    def _semantics(self) -> Iterator[str]:
        if self.kv_dtype != self.dtype:
            yield "kv_dtype"
        if self.kv_scales:
            yield "kv_scales"

    def describe(self) -> str:
        return f"{self.kv_dtype} {self.layout} K{self.kv_heads} D{self.head_dim}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionInputRequest(Request):
    """Block: q/k norm, rotary and KV write between the projection and attention, in one pass."""

    op: str = "attention.input"
    rotary: RotaryRequest
    write: KVWriteRequest
    qk_norm: NormRequest | None = None

    def _semantics(self) -> Iterator[str]:
        yield from self.rotary.requires | self.write.requires
        if self.qk_norm is not None:
            yield "qk_norm"
            yield from self.qk_norm.requires

    def describe(self) -> str:
        return self.rotary.describe() + (" qk-norm" if self.qk_norm else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionBlockRequest(Request):
    """Block: projections, q/k norm, rotary, KV write, attention, output projection."""

    op: str = "attention.block"
    qkv: LinearRequest
    input: AttentionInputRequest
    attention: AttentionRequest
    out: LinearRequest

    def _semantics(self) -> Iterator[str]:
        for part in (self.qkv, self.input, self.attention, self.out):
            yield from part.requires

    def describe(self) -> str:
        return f"C{self.qkv.in_features} {self.attention.describe()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentBlockRequest(Request):
    """Block: latent attention (MLA) in its absorbed form, with all projections.

    Source: DeepSeek-V2, arXiv 2405.04434, section 2.1. parts: the requests of the reference
    composition, in the order of its children. nope_dim, rope_dim: parts of a head's query and key
    without and with rotary. kv_rank: size of the latent vector. q_rank: of the query's, 0 for none.
    """

    op: str = "attention.latent_block"
    hidden: int
    heads: int
    q_rank: int
    kv_rank: int
    nope_dim: int
    rope_dim: int
    value_dim: int
    dtype: str
    parts: tuple[Request, ...] = ()

    def _semantics(self) -> Iterator[str]:
        for part in self.parts:
            yield from part.requires

    def describe(self) -> str:
        return f"{self.dtype} C{self.hidden} H{self.heads} R{self.kv_rank}+{self.rope_dim}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedMLPRequest(Request):
    """Block: down(act(gate(x)) * up(x))."""

    op: str = "mlp.block"
    gate_up: LinearRequest
    activation: ActivationRequest
    down: LinearRequest

    def _semantics(self) -> Iterator[str]:
        for part in (self.gate_up, self.activation, self.down):
            yield from part.requires

    def describe(self) -> str:
        return f"{self.gate_up.describe()} {self.activation.kind}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRequest(Request):
    """One decoder layer of a named architecture. parts: the requests that it is made of."""

    op: str = "layer"
    architecture: str
    index: int
    parts: tuple[Request, ...] = ()

    def _semantics(self) -> Iterator[str]:
        for part in self.parts:
            yield from part.requires

    def describe(self) -> str:
        return f"{self.architecture} layer {self.index}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest(Request):
    """A whole model of a named architecture. parts: the requests that it is made of."""

    op: str = "model"
    architecture: str
    layers: int
    parts: tuple[Request, ...] = ()

    def _semantics(self) -> Iterator[str]:
        for part in self.parts:
            yield from part.requires

    def describe(self) -> str:
        return f"{self.architecture}, {self.layers} layers"


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRequest(Request):
    """Logits to tokens. The semantics that a batch may ask for are in `extra`.

    Their names: "random" (temperature with counter-based noise), "top_k", "top_p", "min_p",
    "penalties", "bias", "mask" (packed token masks), "processors", "logprobs".
    """

    op: str = "sample"
    vocab: int
    dtype: str = "fp32"
    shards: int = 1

    def _semantics(self) -> Iterator[str]:
        if self.shards > 1:
            yield "sharded_vocabulary"

    def describe(self) -> str:
        return f"vocabulary {self.vocab:,}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveRequest(Request):
    """A collective over `ranks` ranks of messages of first_bytes to last_bytes.

    op: "all_reduce", "all_gather", "reduce_scatter", "all_to_all" or "broadcast".
    """

    op: str = "all_reduce"
    ranks: int
    dtype: str
    first_bytes: int = 0
    last_bytes: int = 1 << 40

    def describe(self) -> str:
        return f"{self.dtype} {self.ranks} ranks"


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphRequest(Request):
    """Capture and replay of a step. what: "decode" for one token a row, "all" for any batch."""

    op: str = "graph"
    what: Literal["decode", "all"] = "decode"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferRequest(Request):
    """Moves KV pages to another worker, over `link` ("host", "fabric", "network")."""

    op: str = "kv.transfer"
    link: str = "network"
