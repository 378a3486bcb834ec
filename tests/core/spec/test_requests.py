"""What a request requires, and how it is told apart from others."""

from __future__ import annotations

import pickle

import pytest
from tests.fakes.plugins import PROPS
from tests.fakes.requests import attention, linear, mlp, norm

from inferplane.spec import (
    ActivationRequest,
    AttentionInputRequest,
    EmbeddingRequest,
    GroupKind,
    KVWriteRequest,
    LayerRequest,
    QuantScheme,
    RotaryRequest,
    RoutingRequest,
    SampleRequest,
    TokenRange,
)

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=1)

INT4 = QuantScheme(name="int4", weight="int4")


def rotary(**changes) -> RotaryRequest:
    fields = {"heads": 4, "kv_heads": 2, "head_dim": 8, "rotary_dim": 8, "dtype": "fp32"}
    return RotaryRequest(device=PROPS, **(fields | changes))


def write(**changes) -> KVWriteRequest:
    fields = {
        "layout": "standard",
        "kv_heads": 2,
        "head_dim": 8,
        "dtype": "fp32",
        "kv_dtype": "fp32",
        "page_size": 16,
    }
    return KVWriteRequest(device=PROPS, **(fields | changes))


def embedding(**changes) -> EmbeddingRequest:
    return EmbeddingRequest(**({"device": PROPS, "vocab": 9, "size": 8, "dtype": "fp32"} | changes))


def route(**changes) -> RoutingRequest:
    return RoutingRequest(
        **({"device": PROPS, "experts": 8, "top_k": 2, "dtype": "fp32"} | changes)
    )


@pytest.mark.parametrize(
    "request_",
    [linear(), norm(), rotary(), write(), embedding(), attention(), route()],
    ids=lambda r: r.op,
)
def test_a_plain_request_requires_nothing(request_):
    assert request_.requires == frozenset()


@pytest.mark.parametrize(
    ("request_", "semantic"),
    [
        (linear(bias=True), "bias"),
        (linear(scheme=INT4), "quantized"),
        (linear(adapters=1), "adapters"),
        (norm(weight_offset=1.0), "weight_offset"),
        (rotary(style="interleaved"), "interleaved"),
        (rotary(rotary_dim=4), "partial_rotary"),
        (rotary(axes=3), "multi_axis"),
        (write(kv_dtype="fp8_e4m3"), "kv_dtype"),
        (embedding(scale=2.0), "scale"),
        (embedding(sharding="vocabulary"), "sharded"),
        (attention(kind=GroupKind.LATENT), "latent"),
        (attention(kind=GroupKind.STATE), "state"),
        (attention(window=4), "window"),
        (attention(softcap=30.0), "softcap"),
        (attention(sinks=True), "sinks"),
        (attention(causal=False), "non_causal"),
        (attention(kv_dtype="fp8_e4m3"), "kv_dtype"),
        (route(scoring="sigmoid"), "sigmoid"),
        (route(renormalize=False), "no_renormalize"),
        (route(bias=True), "bias"),
        (route(groups=4), "groups"),
        (route(scaling=2.5), "scaling"),
        (SampleRequest(device=PROPS, vocab=9, shards=2), "sharded_vocabulary"),
        (linear(extra=frozenset({"anything"})), "anything"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_the_default_is_required(request_, semantic):
    assert request_.requires == {semantic}


def test_the_kind_of_an_activation_is_always_required():
    assert ActivationRequest(device=PROPS, size=8, dtype="fp32").requires == {"silu"}


def test_a_block_requires_all_that_its_parts_require():
    block = mlp(gate_up=linear(bias=True), down=linear(scheme=INT4))
    assert block.requires == {"bias", "quantized", "silu"}


def test_an_input_block_with_q_and_k_norms_requires_them():
    block = AttentionInputRequest(
        device=PROPS, rotary=rotary(axes=3), write=write(), qk_norm=norm(weight_offset=1.0)
    )
    assert block.requires == {"qk_norm", "multi_axis", "weight_offset"}


def test_a_layer_requires_all_that_its_parts_require():
    parts = (attention(window=4), mlp())
    layer = LayerRequest(device=PROPS, architecture="X", index=0, parts=parts)
    assert layer.requires == {"window", "silu"}


def test_requests_are_equal_by_what_they_ask():
    assert linear() == linear()
    assert hash(linear()) == hash(linear())
    assert linear() != linear(bias=True)


def test_over_changes_the_tokens_alone():
    changed = linear(bias=True).over(TokenRange(1, 4))
    assert changed == linear(bias=True, tokens=TokenRange(1, 4))


def test_a_request_can_be_sent_to_another_process():
    assert pickle.loads(pickle.dumps(mlp())) == mlp()


@pytest.mark.parametrize(
    ("range_", "text"),
    [
        (TokenRange(), "any"),
        (TokenRange(1, 16), "1-16"),
        (TokenRange(17), "17+"),
        (TokenRange(4, 4), "4"),
    ],
)
def test_token_ranges_are_written_short(range_, text):
    assert str(range_) == text
