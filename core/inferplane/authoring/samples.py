"""Requests to ask candidates with, for every op: plain ones, edges, and every semantic there is.

No torch. They are data about the contract, so a new field of a request belongs here too; a test
fails where an op has no sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from inferplane.spec import (
    OPS,
    ActivationRequest,
    AttentionBlockRequest,
    AttentionInputRequest,
    AttentionRequest,
    CollectiveRequest,
    DeviceProps,
    DispatchRequest,
    EmbeddingRequest,
    ExpertsRequest,
    GatedMLPRequest,
    GraphRequest,
    GroupKind,
    HeadsLinearRequest,
    KVWriteRequest,
    LatentBlockRequest,
    LayerRequest,
    LinearRequest,
    ModelRequest,
    MoEBlockRequest,
    NormRequest,
    QuantScheme,
    Request,
    RotaryRequest,
    RoutingRequest,
    SampleInputs,
    SampleRequest,
    TokenRange,
    TransferRequest,
)

W4 = QuantScheme.named(weight="int4", granularity="group", group=128, scale="fp16")
SCHEMES = (
    W4,
    QuantScheme.named(weight="uint4", granularity="group", group=32, zero_point=True),
    QuantScheme.named(weight="uint4", granularity="group", group=128, reordered=True),
    QuantScheme.named(weight="int8", granularity="channel"),
    QuantScheme.named(weight="int8", granularity="channel", activation="int8"),
    QuantScheme.named(weight="fp8_e4m3", granularity="tensor", activation="fp8_e4m3"),
    QuantScheme.named(
        weight="fp8_e4m3",
        granularity="tensor",
        activation="fp8_e4m3",
        activation_granularity="tensor",
        dynamic=False,
    ),
    QuantScheme.named(
        weight="fp8_e4m3",
        granularity="block",
        block=(128, 128),
        activation="fp8_e4m3",
        activation_granularity="group",
        activation_group=128,
    ),
    QuantScheme.named(weight="fp4_e2m1", granularity="group", group=32, scale="ue8m0"),
    QuantScheme.named(
        weight="fp4_e2m1", granularity="group", group=16, scale="fp8_e4m3", global_scale=True
    ),
    QuantScheme.named(weight="nf4", granularity="group", group=64),
    QuantScheme(name="unheard-of", weight="int3", granularity="group", group=24),
)
DTYPES = ("bf16", "fp16", "fp32", "fp8_e4m3", "fp64")
ACTIVATIONS = ("silu", "gelu", "gelu_tanh", "swigluoai", "relu")
# Ops whose semantics have open names: an activation may be called anything.
OPEN_OPS = frozenset(
    {"activation.gated", "mlp.block", "moe.experts", "moe.block", "layer", "model"}
)


def samples(op: str, props: DeviceProps) -> list[Request]:
    """Requests of one op for a device, in every dtype, plain first."""
    made = list(_MAKERS[op](props)) if op in _MAKERS else []
    ranged = [r.over(t) for r in made[:1] for t in (TokenRange(1, 1), TokenRange(17, 4096))]
    return [*made, *ranged]


def features(op: str, props: DeviceProps) -> frozenset[str]:
    """Every semantic that a request of this op can require."""
    return frozenset(name for request in samples(op, props) for name in request.requires)


def _linears(props: DeviceProps) -> Iterator[LinearRequest]:
    for dtype in DTYPES:
        yield LinearRequest(device=props, in_features=256, out_features=512, dtype=dtype)
    plain = LinearRequest(device=props, in_features=256, out_features=512, dtype="bf16")
    yield replace(plain, in_features=255, out_features=1)
    yield replace(plain, bias=True)
    yield from (replace(plain, scheme=scheme) for scheme in SCHEMES)
    yield replace(plain, adapters=4)
    yield replace(plain, sharding="column", shards=2)
    yield replace(plain, parts=(256, 128, 128))


def _norms(op: str) -> Any:
    def make(props: DeviceProps) -> Iterator[NormRequest]:
        for dtype in DTYPES:
            yield NormRequest(op=op, device=props, size=256, dtype=dtype, eps=1e-6)
        yield NormRequest(op=op, device=props, size=63, dtype="bf16", eps=1e-5)
        yield NormRequest(op=op, device=props, size=256, dtype="bf16", eps=1e-6, weight_offset=1.0)

    return make


def _rotaries(props: DeviceProps) -> Iterator[RotaryRequest]:
    for dtype in DTYPES:
        yield RotaryRequest(
            device=props, heads=8, kv_heads=2, head_dim=64, rotary_dim=64, dtype=dtype
        )
    plain = RotaryRequest(
        device=props, heads=8, kv_heads=2, head_dim=64, rotary_dim=64, dtype="bf16"
    )
    yield replace(plain, rotary_dim=32)
    yield replace(plain, style="interleaved")
    yield replace(plain, axes=3)


def _activations(props: DeviceProps) -> Iterator[ActivationRequest]:
    for dtype in DTYPES:
        yield ActivationRequest(device=props, size=512, dtype=dtype)
    for kind in ACTIVATIONS:
        yield ActivationRequest(device=props, size=512, dtype="bf16", kind=kind)
    yield ActivationRequest(device=props, size=512, dtype="bf16", limit=7.0)


def _embeddings(props: DeviceProps) -> Iterator[EmbeddingRequest]:
    for dtype in DTYPES:
        yield EmbeddingRequest(device=props, vocab=1000, size=256, dtype=dtype)
    plain = EmbeddingRequest(device=props, vocab=1000, size=256, dtype="bf16")
    yield replace(plain, scale=16.0)
    yield replace(plain, sharding="vocabulary", shards=2)


def _attentions(props: DeviceProps) -> Iterator[AttentionRequest]:
    plain = AttentionRequest(
        device=props,
        heads=8,
        kv_heads=2,
        head_dim=64,
        dtype="bf16",
        kv_dtype="bf16",
        page_size=(props.page_sizes or (16,))[0],
        scale=0.125,
    )
    for dtype in DTYPES:
        yield replace(plain, dtype=dtype, kv_dtype=dtype)
    for head_dim in (80, 96, 128, 256):
        yield replace(plain, head_dim=head_dim)
    for page_size in (1, 16, 128, 7):
        yield replace(plain, page_size=page_size)
    for kind in (GroupKind.WINDOW, GroupKind.STATE):
        yield replace(plain, kind=kind, window=128 if kind is GroupKind.WINDOW else 0)
    yield _latent(props)
    yield replace(plain, softcap=30.0)
    yield replace(plain, sinks=True)
    yield replace(plain, causal=False)
    yield replace(plain, kv_dtype="fp8_e4m3")
    yield replace(plain, kv_dtype="fp8_e4m3", kv_scales=True)


def _latent(props: DeviceProps) -> AttentionRequest:
    return AttentionRequest(
        device=props,
        heads=16,
        kv_heads=1,
        head_dim=576,
        value_dim=512,
        dtype="bf16",
        kv_dtype="bf16",
        page_size=(props.page_sizes or (16,))[0],
        scale=0.0625,
        kind=GroupKind.LATENT,
    )


def _heads_linears(props: DeviceProps) -> Iterator[HeadsLinearRequest]:
    for dtype in DTYPES:
        yield HeadsLinearRequest(device=props, heads=16, inputs=128, outputs=512, dtype=dtype)


def _latent_blocks(props: DeviceProps) -> Iterator[LatentBlockRequest]:
    linear, heads = next(_linears(props)), next(_heads_linears(props))
    plain = LatentBlockRequest(
        device=props,
        hidden=256,
        heads=16,
        q_rank=0,
        kv_rank=512,
        nope_dim=128,
        rope_dim=64,
        value_dim=128,
        dtype="bf16",
        parts=(linear, linear, heads, _latent(props), heads, linear),
    )
    yield plain
    yield replace(plain, q_rank=1536)


def _writes(props: DeviceProps) -> Iterator[KVWriteRequest]:
    plain = KVWriteRequest(
        device=props,
        layout="standard",
        kv_heads=2,
        head_dim=64,
        dtype="bf16",
        kv_dtype="bf16",
        page_size=16,
    )
    for dtype in DTYPES:
        yield replace(plain, dtype=dtype, kv_dtype=dtype)
    yield replace(plain, layout="unheard-of")
    yield replace(plain, layout="latent", kv_heads=1, head_dim=576)
    yield replace(plain, kv_dtype="fp8_e4m3")
    yield replace(plain, kv_dtype="fp8_e4m3", kv_scales=True)


def _inputs(props: DeviceProps) -> Iterator[AttentionInputRequest]:
    norm = NormRequest(device=props, size=64, dtype="bf16", eps=1e-6)
    write = next(_writes(props))
    for rotary in _rotaries(props):
        yield AttentionInputRequest(device=props, rotary=rotary, write=write)
    plain = AttentionInputRequest(device=props, rotary=next(_rotaries(props)), write=write)
    yield replace(plain, qk_norm=norm)
    yield replace(plain, qk_norm=replace(norm, weight_offset=1.0))
    for written in _writes(props):
        yield replace(plain, write=written)


def _attention_blocks(props: DeviceProps) -> Iterator[AttentionBlockRequest]:
    linear, attention, inside = (
        next(_linears(props)),
        next(_attentions(props)),
        next(_inputs(props)),
    )
    plain = AttentionBlockRequest(
        device=props, qkv=linear, input=inside, attention=attention, out=linear
    )
    yield plain
    yield from (replace(plain, attention=a) for a in _attentions(props))
    yield from (replace(plain, input=i) for i in _inputs(props))
    yield from (replace(plain, qkv=one, out=one) for one in _linears(props))


def _mlps(props: DeviceProps) -> Iterator[GatedMLPRequest]:
    linear, activation = next(_linears(props)), next(_activations(props))
    plain = GatedMLPRequest(device=props, gate_up=linear, activation=activation, down=linear)
    yield from (replace(plain, gate_up=one, down=one) for one in _linears(props))
    yield from (replace(plain, activation=one) for one in _activations(props))


def _routings(props: DeviceProps) -> Iterator[RoutingRequest]:
    plain = RoutingRequest(device=props, experts=64, top_k=8, dtype="bf16")
    yield from (replace(plain, dtype=dtype) for dtype in DTYPES)
    yield replace(plain, scoring="sigmoid", renormalize=False, scaling=2.5)
    yield replace(plain, bias=True, groups=8, top_groups=4)
    yield replace(plain, groups=8, top_groups=4, group_score="max")
    yield replace(plain, shared=1)


def _experts(props: DeviceProps) -> Iterator[ExpertsRequest]:
    plain = ExpertsRequest(
        device=props, experts=64, top_k=8, hidden=256, intermediate=128, dtype="bf16"
    )
    yield from (replace(plain, dtype=dtype) for dtype in DTYPES)
    yield from (replace(plain, activation=kind) for kind in ACTIVATIONS)
    yield from (replace(plain, scheme=scheme) for scheme in SCHEMES)
    yield replace(plain, activation="swigluoai", limit=7.0, bias=True, scheme=W4)


def _dispatches(props: DeviceProps) -> Iterator[DispatchRequest]:
    for dtype in DTYPES:
        yield DispatchRequest(device=props, experts=64, top_k=8, hidden=256, dtype=dtype, ranks=8)


def _moe_blocks(props: DeviceProps) -> Iterator[MoEBlockRequest]:
    plain = MoEBlockRequest(
        device=props,
        router=next(_linears(props)),
        routing=next(_routings(props)),
        experts=next(_experts(props)),
    )
    yield from (replace(plain, routing=one) for one in _routings(props))
    yield from (replace(plain, experts=one) for one in _experts(props))
    yield replace(plain, shared=next(_mlps(props)))


def _parts(props: DeviceProps) -> Iterator[tuple[Request, ...]]:
    norm, mlp = next(_norms("norm.rms")(props)), next(_mlps(props))
    for block in _attention_blocks(props):
        yield (norm, block, norm, mlp)
    for other in (*_mlps(props), *_moe_blocks(props)):
        yield (norm, next(_attention_blocks(props)), norm, other)


def _layers(props: DeviceProps) -> Iterator[LayerRequest]:
    for architecture in ("Qwen3ForCausalLM", "NeverHeardOfForCausalLM"):
        for parts in _parts(props):
            yield LayerRequest(device=props, architecture=architecture, index=0, parts=parts)


def _models(props: DeviceProps) -> Iterator[ModelRequest]:
    for architecture in ("Qwen3ForCausalLM", "NeverHeardOfForCausalLM"):
        for parts in _parts(props):
            yield ModelRequest(device=props, architecture=architecture, layers=1, parts=parts)


def _samplers(props: DeviceProps) -> Iterator[SampleRequest]:
    plain = SampleRequest(device=props, vocab=32000)
    yield from (replace(plain, dtype=dtype) for dtype in ("fp32", "bf16"))
    given: dict[str, Any] = dict.fromkeys(SampleInputs.__dataclass_fields__, ())
    given |= {"processors": ((None, []),), "logprobs": 0}
    everything = SampleInputs(**given)
    yield replace(plain, extra=everything.features())
    yield replace(plain, shards=2)


def _collectives(op: str) -> Any:
    def make(props: DeviceProps) -> Iterator[CollectiveRequest]:
        for dtype in (*DTYPES, "int32"):
            yield CollectiveRequest(op=op, device=props, ranks=2, dtype=dtype)
        yield CollectiveRequest(op=op, device=props, ranks=8, dtype="bf16", last_bytes=1 << 20)

    return make


_MAKERS: dict[str, Any] = {
    "linear": _linears,
    "linear.heads": _heads_linears,
    "embedding": _embeddings,
    "norm.rms": _norms("norm.rms"),
    "norm.add_rms": _norms("norm.add_rms"),
    "rotary": _rotaries,
    "activation.gated": _activations,
    "kv.write": _writes,
    "attention": _attentions,
    "attention.input": _inputs,
    "attention.block": _attention_blocks,
    "attention.latent_block": _latent_blocks,
    "mlp.block": _mlps,
    "moe.route": _routings,
    "moe.experts": _experts,
    "moe.dispatch": _dispatches,
    "moe.block": _moe_blocks,
    "layer": _layers,
    "model": _models,
    "sample": _samplers,
    **{op: _collectives(op) for op, schema in OPS.items() if schema.request is CollectiveRequest},
    "graph": lambda props: (GraphRequest(device=props, what=w) for w in ("decode", "all")),
    "kv.transfer": lambda props: (
        TransferRequest(device=props, link=link) for link in ("host", "fabric", "network")
    ),
}
