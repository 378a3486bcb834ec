"""What the kernels say they can serve (level V0): data in, data out."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from inferplane_triton import plugin, supports

from inferplane.spec import (
    UNQUANTIZED,
    ActivationRequest,
    AttentionInputRequest,
    AttentionRequest,
    DeviceProps,
    EmbeddingRequest,
    ExpertsRequest,
    GiB,
    GroupKind,
    KVWriteRequest,
    LinearRequest,
    NormRequest,
    QuantScheme,
    RotaryRequest,
    RoutingRequest,
    SampleRequest,
)

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=5)

DEVICE = DeviceProps(
    name="a device",
    profile="a",
    memory_bytes=GiB,
    dtypes=frozenset({"fp32", "bf16", "fp16"}),
    capabilities=frozenset({"triton", "fp8_e4m3_convert"}),
)
COMMON: dict[str, Any] = {"device": DEVICE, "dtype": "bf16"}
ATTENTION = AttentionRequest(
    **COMMON, heads=8, kv_heads=2, head_dim=128, kv_dtype="bf16", page_size=16, scale=0.1
)
WRITE = KVWriteRequest(
    **COMMON, layout="standard", kv_heads=2, head_dim=128, kv_dtype="bf16", page_size=16
)
ROTARY = RotaryRequest(**COMMON, heads=8, kv_heads=2, head_dim=128, rotary_dim=128)
NORM = NormRequest(**COMMON, size=128, eps=1e-6)
INPUT = AttentionInputRequest(device=DEVICE, rotary=ROTARY, write=WRITE, qk_norm=NORM)
SAMPLE = SampleRequest(device=DEVICE, vocab=1000)
LATENT = replace(
    ATTENTION, kind=GroupKind.LATENT, heads=16, kv_heads=1, head_dim=576, value_dim=512
)
INT4 = QuantScheme.named(weight="int4", granularity="group", group=128, scale="bf16")
LINEAR = LinearRequest(**COMMON, in_features=256, out_features=96, scheme=INT4)
ROUTING = RoutingRequest(**COMMON, experts=160, top_k=6, groups=8, top_groups=3)
EXPERTS = ExpertsRequest(
    **COMMON, experts=8, top_k=2, hidden=256, intermediate=128, scheme=INT4, activation="swigluoai"
)
LATENT_WRITE = replace(WRITE, layout="latent", kv_heads=1, head_dim=576)
WHOLE = QuantScheme.named(weight="int8", activation="int8", activation_granularity="tensor")
REQUESTS = {
    "norm": NORM,
    "rotary": ROTARY,
    "activation": ActivationRequest(**COMMON, size=128),
    "embedding": EmbeddingRequest(**COMMON, vocab=10, size=128),
    "kv_write": WRITE,
    "attention": ATTENTION,
    "attention_input": INPUT,
    "sample": SAMPLE,
    "latent": LATENT,
    "linear": LINEAR,
    "route": ROUTING,
    "experts": EXPERTS,
}


def without(device: DeviceProps, word: str) -> DeviceProps:
    return replace(device, capabilities=device.capabilities - {word})


@pytest.mark.parametrize("name", REQUESTS)
def test_what_is_usual_is_served(name):
    assert getattr(supports, name)(REQUESTS[name]).ok


@pytest.mark.parametrize("name", sorted(set(REQUESTS) - {"attention_input"}))
def test_a_device_without_triton_is_a_reason(name):
    answer = getattr(supports, name)(replace(REQUESTS[name], device=without(DEVICE, "triton")))
    assert not answer.ok
    assert "no capability 'triton'" in answer.reason


def test_a_block_needs_triton_as_its_parts_do():
    device = without(DEVICE, "triton")
    parts = replace(ROTARY, device=device), replace(WRITE, device=device)
    assert "triton" in supports.attention_input(replace(INPUT, rotary=parts[0])).reason
    assert "triton" in supports.attention_input(replace(INPUT, write=parts[1])).reason


REFUSED = [
    (supports.attention, replace(ATTENTION, head_dim=264), "head size is 264"),
    (supports.attention, replace(ATTENTION, head_dim=100), "head size is 100"),
    (supports.attention, replace(ATTENTION, head_dim=8), "head size is 8"),
    (supports.attention, replace(ATTENTION, page_size=256), "page size is 256"),
    (supports.attention, replace(ATTENTION, heads=9), "9 heads"),
    (supports.attention, replace(ATTENTION, heads=130, kv_heads=2), "65 query heads a kv head"),
    (supports.attention, replace(ATTENTION, kind=GroupKind.LATENT), "latent"),
    (supports.attention, replace(ATTENTION, dtype="int8"), "dtype is int8"),
    (supports.attention, replace(ATTENTION, scale=-0.1), "scaled by -0.1"),
    (supports.attention, replace(ATTENTION, kv_dtype="fp8_e5m2"), "KV dtype is fp8_e5m2"),
    (supports.kv_write, replace(WRITE, layout="tiles"), "layout is 'tiles'"),
    (supports.rotary, replace(ROTARY, axes=3), "3 axes"),
    (supports.rotary, replace(ROTARY, rotary_dim=7), "7 of 128"),
    (supports.norm, replace(NORM, size=40_000), "size is 40,000"),
    (supports.sample, replace(SAMPLE, shards=2), "2 shards"),
    (supports.sample, replace(SAMPLE, dtype="bf16"), "logits are bf16"),
    (supports.attention_input, replace(INPUT, qk_norm=replace(NORM, size=64)), "size is 64"),
    (supports.attention_input, replace(INPUT, write=LATENT_WRITE), "'latent', it writes"),
    (supports.kv_write, replace(LATENT_WRITE, kv_heads=2), "2 kv heads"),
    (supports.latent, ATTENTION, "kind is full"),
    (supports.latent, replace(LATENT, value_dim=576), "576 of them values"),
    (supports.latent, replace(LATENT, value_dim=256), "256 of them values"),
    (supports.latent, replace(LATENT, head_dim=1024), "1024 elements, 512"),
    (supports.latent, replace(LATENT, kv_heads=2), "16 heads over 2"),
    (supports.latent, replace(LATENT, heads=512), "512 heads over 1"),
    (supports.latent, replace(LATENT, page_size=256), "page size is 256"),
    (supports.linear, replace(LINEAR, scheme=UNQUANTIZED), "not quantized"),
    (supports.linear, replace(LINEAR, adapters=2), "adapters"),
    (supports.linear, replace(LINEAR, sharding="row", shards=4), "64 inputs, they must be"),
    (supports.route, replace(ROUTING, top_k=61), "61 experts a token, of 60"),
    (supports.route, replace(ROUTING, groups=7), "160 experts are not in 7"),
    (supports.route, replace(ROUTING, experts=4096, groups=0), "4,096 experts"),
    (supports.experts, replace(EXPERTS, activation="relu"), "activation is relu"),
    (supports.experts, replace(EXPERTS, intermediate=192), "192 inputs, they must be"),
    (supports.experts, replace(EXPERTS, scheme=replace(INT4, reordered=True)), "permuted"),
    (supports.experts, replace(EXPERTS, scheme=WHOLE), "share a scale that is found"),
]


@pytest.mark.parametrize(("answer", "request_", "reason"), REFUSED)
def test_a_refusal_says_what_was_asked(answer, request_, reason):
    found = answer(request_)
    assert not found.ok
    assert reason in found.reason


def test_an_fp8_cache_needs_a_device_that_converts_it():
    asked = replace(ATTENTION, kv_dtype="fp8_e4m3")
    assert supports.attention(asked).ok
    refused = supports.attention(replace(asked, device=without(DEVICE, "fp8_e4m3_convert")))
    assert "fp8_e4m3_convert" in refused.reason


def test_latent_attention_needs_room_for_a_tile():
    device = replace(DEVICE, details=(("shared_memory_bytes", str(32 * 1024)),))
    refused = supports.latent(replace(LATENT, device=device))
    assert "bytes that a program shares, a device has 32,768" in refused.reason


def test_scaled_caches_are_a_feature_of_attention_and_its_write_and_not_of_the_block():
    asked = {
        "attention": replace(ATTENTION, kv_scales=True, kv_dtype="fp8_e4m3"),
        "kv.write": replace(WRITE, kv_scales=True),
        "attention.input": replace(INPUT, write=replace(WRITE, kv_scales=True)),
    }
    offers = [*plugin.inferplane_ops(DEVICE), *plugin.inferplane_attention(DEVICE)]
    offers += plugin.inferplane_blocks(DEVICE)
    able = {o.op for o in offers if o.op in asked and asked[o.op].requires <= o.features}
    assert able == {"attention", "kv.write"}


def test_hooks_and_answers_import_neither_torch_nor_triton():
    code = (
        "import sys, inferplane_triton.plugin as p, inferplane_triton.supports as s;"
        "from inferplane.spec import DeviceProps, NormRequest;"
        "d = DeviceProps(name='x', profile='x', memory_bytes=1, dtypes=frozenset({'fp32'}),"
        " capabilities=frozenset({'triton'}));"
        "found = [*p.inferplane_ops(d), *p.inferplane_attention(d), *p.inferplane_blocks(d)];"
        "found += [*p.inferplane_quantization(d), *p.inferplane_moe(d)];"
        "assert len(found) == 14, found;"
        "assert s.norm(NormRequest(device=d, size=8, dtype='fp32', eps=1e-6)).ok;"
        "print([m for m in ('torch', 'triton', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
