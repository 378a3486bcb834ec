"""The reference's element ops against their formulas, in double precision."""

import math

import pytest
import torch

from inferplane.reference import plugin
from inferplane.reference.activation import gated
from inferplane.reference.embedding import Embedding
from inferplane.reference.kv import write
from inferplane.reference.linear import Linear
from inferplane.reference.norm import add_rms_norm, rms_norm
from inferplane.spec import (
    ActivationRequest,
    DeviceProps,
    EmbeddingRequest,
    KVWriteRequest,
    LinearRequest,
    NormRequest,
    RotaryRequest,
    SampleRequest,
    WeightPart,
)

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=3)

PROPS = DeviceProps(name="a", profile="a", memory_bytes=1, dtypes=frozenset({"fp32"}))
X = [[0.5, -1.5, 3.0, 2.0], [0.1, 0.0, -0.2, 4.0]]
WEIGHT = [1.0, -2.0, 0.5, 1.5]


class Source:
    tied_to = ""

    def __init__(self, first: int = 0, **tensors: torch.Tensor) -> None:
        self.first, self.tensors = first, tensors

    def parts(self, name: str) -> list[WeightPart]:
        shape = tuple(self.tensors[name].shape)
        at = (self.first, 0)
        return [WeightPart(name=name, key=name, full_shape=shape, offset=at, shape=shape)]

    def read(self, name: str, part: str | None = None) -> torch.Tensor:
        return self.tensors[name]


def norm_request(offset: float = 0.0) -> NormRequest:
    return NormRequest(device=PROPS, size=4, dtype="fp32", eps=1e-3, weight_offset=offset)


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_rms_norm_divides_by_the_root_mean_square(offset):
    found = rms_norm(norm_request(offset))(torch.tensor(X), torch.tensor(WEIGHT))
    for row, values in enumerate(X):
        scale = 1 / math.sqrt(sum(v * v for v in values) / 4 + 1e-3)
        expected = [v * scale * (w + offset) for v, w in zip(values, WEIGHT, strict=True)]
        assert found[row].tolist() == pytest.approx(expected, abs=1e-6)


def test_add_rms_norm_gives_the_norm_and_the_sum():
    x, residual = torch.tensor(X), torch.tensor(X).flip(0)
    found, total = add_rms_norm(norm_request())(x.clone(), residual.clone(), torch.tensor(WEIGHT))
    assert torch.equal(total, x + residual)
    assert torch.equal(found, rms_norm(norm_request())(x + residual, torch.tensor(WEIGHT)))


def test_a_norm_in_bf16_is_computed_in_fp32():
    x = torch.full((1, 4), 3e38, dtype=torch.bfloat16) / 1e20
    found = rms_norm(norm_request())(x, torch.ones(4, dtype=torch.bfloat16))
    assert found.float()[0].tolist() == pytest.approx([1.0] * 4, rel=1e-2)


ACTIVATIONS = {
    "silu": lambda x: x / (1 + math.exp(-x)),
    "gelu": lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: (
        0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    ),
}


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_gated_activation(kind):
    request = ActivationRequest(device=PROPS, size=2, dtype="fp32", kind=kind)
    found = gated(request)(torch.tensor(X))
    for row, (g0, g1, u0, u1) in enumerate(X):
        expected = [ACTIVATIONS[kind](g0) * u0, ACTIVATIONS[kind](g1) * u1]
        assert found[row].tolist() == pytest.approx(expected, abs=1e-6)


def test_a_limit_clamps_gate_from_above_and_up_on_both_sides():
    request = ActivationRequest(device=PROPS, size=3, dtype="fp32", limit=2.0)
    plain = ActivationRequest(device=PROPS, size=3, dtype="fp32")
    found = gated(request)(torch.tensor([[-9.0, 9.0, 1.0, -9.0, 9.0, 1.0]]))
    clamped = gated(plain)(torch.tensor([[-9.0, 2.0, 1.0, -2.0, 2.0, 1.0]]))
    assert torch.equal(found, clamped)


@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_embedding_picks_scaled_rows(scale):
    request = EmbeddingRequest(device=PROPS, vocab=2, size=4, dtype="fp32", scale=scale)
    made = Embedding(request)
    packed = made.prepare(Source(weight=torch.tensor(X)))
    found = made(torch.tensor([1, 0, 1]), packed)
    assert torch.equal(found, torch.tensor([X[1], X[0], X[1]]) * scale)


@pytest.mark.parametrize("bias", [True, False])
def test_linear_multiplies_rows_and_adds_a_bias(bias):
    request = LinearRequest(device=PROPS, in_features=4, out_features=2, dtype="fp32", bias=bias)
    made = Linear(request)
    packed = made.prepare(Source(weight=torch.tensor(X), bias=torch.tensor([10.0, 20.0])))
    found = made(torch.tensor([WEIGHT]), packed)[0].tolist()
    expected = [
        sum(w * x for w, x in zip(WEIGHT, row, strict=True)) + bias * add
        for row, add in zip(X, (10.0, 20.0), strict=True)
    ]
    assert found == pytest.approx(expected, abs=1e-5)


def test_write_puts_keys_and_values_into_their_slots():
    request = KVWriteRequest(
        device=PROPS,
        layout="standard",
        kv_heads=1,
        head_dim=2,
        dtype="fp32",
        kv_dtype="fp32",
        page_size=2,
    )
    cache = torch.zeros(3, 2, 2, 1, 2)
    k, v = torch.arange(6.0).view(3, 1, 2) + 1, torch.arange(6.0).view(3, 1, 2) + 11
    write(request)(k, v, cache, torch.tensor([5, -1, 2]))
    expected = torch.zeros(3, 2, 2, 1, 2)
    expected[2, 1, 0], expected[2, 1, 1] = k[0], v[0]
    expected[1, 0, 0], expected[1, 0, 1] = k[2], v[2]
    assert torch.equal(cache, expected)


def test_ranks_with_parts_of_a_vocabulary_add_up_to_the_whole():
    table, ids = torch.randn(6, 3), torch.tensor([0, 2, 3, 5])
    request = EmbeddingRequest(
        device=PROPS, vocab=6, size=3, dtype="fp32", sharding="vocabulary", shards=2
    )
    kernel, total = Embedding(request), torch.zeros(4, 3)
    for first in (0, 3):
        packed = kernel.prepare(Source(first=first, weight=table[first : first + 3]))
        total += kernel(ids, packed)
    assert torch.equal(total, table[ids])


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (
            RotaryRequest(
                device=PROPS, heads=1, kv_heads=1, head_dim=8, rotary_dim=8, dtype="fp32", axes=3
            ),
            "3 axes",
        ),
        (SampleRequest(device=PROPS, vocab=8, shards=2), "2 shards"),
    ],
)
def test_what_it_would_compute_wrongly_is_refused(request_, reason):
    offers = {c.op: c for c in plugin.inferplane_ops(PROPS)}
    support = offers[request_.op].supports(request_)
    assert not support.ok
    assert reason in support.reason
