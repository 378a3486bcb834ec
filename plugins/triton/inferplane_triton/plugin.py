"""The hooks: portable kernels for every device with the capability `triton`. No torch here."""

from __future__ import annotations

from typing import Any

from inferplane.spec import Candidate, DeviceProps, FeatureSpec, hookimpl

from . import schemes, supports

_HERE = "inferplane_triton"
_OWN, _PRODUCTS = "tunables", "product_tunables"  # modules
PAGE_SIZES = (16, 32, 64, 128, 8, 4, 2, 1)


@hookimpl
def inferplane_feature() -> FeatureSpec:
    return FeatureSpec(name="triton", api=(0, 4))


@hookimpl
def inferplane_ops(props: DeviceProps) -> list[Candidate]:
    return [
        _kernel("norm.rms", supports.norm, "norm:rms_norm", features={"weight_offset"}, tuned=_OWN),
        _kernel(
            "norm.add_rms",
            supports.norm,
            "norm:add_rms_norm",
            features={"weight_offset"},
            tuned=_OWN,
        ),
        _kernel(
            "rotary",
            supports.rotary,
            "rotary:Rotary",
            features={"interleaved", "partial_rotary"},
        ),
        _kernel(
            "activation.gated",
            supports.activation,
            "activation:gated",
            features={*supports.ACTIVATIONS, "limit"},
            tuned=_OWN,
        ),
        _kernel(
            "embedding", supports.embedding, "embedding:Embedding", features={"scale", "sharded"}
        ),
        _kernel(
            "kv.write", supports.kv_write, "write:kv_write", features={"kv_dtype"} | _scales(props)
        ),
        _kernel(
            "sample",
            supports.sample,
            "sample:sample",
            features=supports.SAMPLING,
            capture="none",
            tuned=_OWN,
        ),
    ]


@hookimpl
def inferplane_attention(props: DeviceProps) -> list[Candidate]:
    features = {"window", "softcap", "sinks", "non_causal", "kv_dtype"} | _scales(props)
    latent = {"latent", "value_dim", "kv_dtype"} | _scales(props)
    return [
        _kernel(
            "attention",
            supports.attention,
            "attention:Attention",
            features=features,
            capture="decode",
            page_sizes=PAGE_SIZES,
            tuned=_OWN,
        ),
        _kernel(
            "attention",
            supports.latent,
            "latent:LatentAttention",
            name="latent_attention",
            features=latent,
            capture="decode",
            page_sizes=PAGE_SIZES,
            tuned=_OWN,
        ),
    ]


@hookimpl
def inferplane_quantization(props: DeviceProps) -> list[Candidate]:
    features = {"bias", *schemes.features(props)}
    heads = Candidate(
        op="linear.heads",
        name="triton.linear_heads",  # one batched product of torch, as fast as a kernel of ours
        supports=supports.heads,
        load="inferplane.spec:TorchHeadsLinear",
    )
    return [
        heads,
        _kernel(
            "linear",
            supports.linear,
            "linear:QuantizedLinear",
            features=features,
            extra_bytes=supports.linear_extra,
            tuned=_PRODUCTS,
        ),
    ]


@hookimpl
def inferplane_moe(props: DeviceProps) -> list[Candidate]:
    routing = {"sigmoid", "no_renormalize", "bias", "groups", "group_max", "scaling", "shared"}
    features = {"bias", "limit", *supports.ACTIVATIONS, *schemes.features(props)}
    return [
        _kernel("moe.route", supports.route, "route:route", features=routing),
        _kernel(
            "moe.experts",
            supports.experts,
            "experts:Experts",
            features=features,
            extra_bytes=supports.experts_extra,
            tuned=_PRODUCTS,
        ),
    ]


@hookimpl
def inferplane_blocks(props: DeviceProps) -> list[Candidate]:
    features = {"qk_norm", "weight_offset", "interleaved", "partial_rotary", "kv_dtype"}
    return [
        _kernel(
            "attention.input",
            supports.attention_input,
            "attention_input:AttentionInput",
            features=features,
            level="block",
        )
    ]


def _scales(props: DeviceProps) -> set[str]:
    """Scales belong to caches of 8 bits, which not every device converts to."""
    return {"kv_scales"} if "fp8_e4m3_convert" in props.capabilities else set()


def _kernel(
    op: str, answer: Any, load: str, *, name: str = "", tuned: str = "", **options: Any
) -> Candidate:
    """tuned: the module that lets `inferplane tune` measure its configurations."""
    name = name or op.removesuffix(".gated").replace(".", "_")
    return Candidate(
        op=op,
        name=f"triton.{name}",
        supports=answer,
        load=f"{_HERE}.{load}",
        tunable=f"{_HERE}.{tuned}:{name}" if tuned else "",
        **options,
    )
