"""The CPU's element ops against the reference, over drawn shapes."""

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inferplane.layers.rotary import Rope, table
from inferplane.platforms.cpu import ops
from inferplane.reference import activation, embedding, kv, norm, rotary
from inferplane.spec import (
    ActivationRequest,
    AttentionInputRequest,
    DeviceProps,
    EmbeddingRequest,
    KVWriteRequest,
    NormRequest,
    RotaryRequest,
)
from inferplane.spec.torch_types import torch_dtype

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=10)

PROPS = DeviceProps(name="a", profile="a", memory_bytes=1, dtypes=frozenset({"fp32", "bf16"}))
# Relative and absolute; bf16 has 8 bits, and a fused kernel rounds at other places.
TOLERANCE = {"fp32": {"rtol": 1e-5, "atol": 1e-5}, "bf16": {"rtol": 3e-2, "atol": 3e-2}}
EXAMPLES = settings(max_examples=30, deadline=None, derandomize=True)
DTYPES = st.sampled_from(["fp32", "bf16"])
TOKENS = st.sampled_from([1, 2, 7, 33])
SEEDS = st.integers(0, 1000)


class Source:
    """Named tensors as a `WeightSource`."""

    tied_to = ""

    def __init__(
        self, tensors: dict[str, torch.Tensor], children: dict[str, "Source"] | None = None
    ):
        self.tensors, self.children = tensors, children or {}

    def read(self, name: str, part: str | None = None) -> torch.Tensor:
        return self.tensors[name]

    def child(self, name: str) -> "Source":
        return self.children[name]


def normal(seed: int, dtype: str, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(torch_dtype(dtype))


def close(found: Any, expected: Any, dtype: str) -> None:
    torch.testing.assert_close(found, expected, **TOLERANCE[dtype])


@EXAMPLES
@given(tokens=TOKENS, size=st.sampled_from([1, 8, 64, 129]), dtype=DTYPES, seed=SEEDS)
def test_rms_norm(tokens, size, dtype, seed):
    request = NormRequest(device=PROPS, size=size, dtype=dtype, eps=1e-5)
    x, weight = normal(seed, dtype, tokens, size), normal(seed + 1, dtype, size)
    close(ops.rms_norm(request)(x, weight), norm.rms_norm(request)(x, weight), dtype)


@EXAMPLES
@given(tokens=TOKENS, size=st.sampled_from([8, 64, 129]), dtype=DTYPES, seed=SEEDS)
def test_add_rms_norm(tokens, size, dtype, seed):
    request = NormRequest(op="norm.add_rms", device=PROPS, size=size, dtype=dtype, eps=1e-5)
    x, residual = normal(seed, dtype, tokens, size), normal(seed + 1, dtype, tokens, size)
    weight = normal(seed + 2, dtype, size)
    expected = norm.add_rms_norm(request)(x.clone(), residual.clone(), weight)
    close(ops.add_rms_norm(request)(x, residual, weight), expected, dtype)


@pytest.mark.parametrize("kind", ["silu", "gelu", "gelu_tanh", "swigluoai"])
@EXAMPLES
@given(tokens=TOKENS, size=st.sampled_from([1, 16, 95]), dtype=DTYPES, seed=SEEDS)
def test_gated_activation(kind, tokens, size, dtype, seed):
    request = ActivationRequest(device=PROPS, size=size, dtype=dtype, kind=kind)
    x = normal(seed, dtype, tokens, 2 * size)
    expected = activation.gated(request)(x.clone())
    close(ops.gated(request)(x), expected, dtype)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["silu", "swigluoai"])
def test_a_limit_clamps_gate_from_above_and_up_on_both_sides(kind, dtype):
    request = ActivationRequest(device=PROPS, size=16, dtype=dtype, kind=kind, limit=0.5)
    x = normal(3, dtype, 5, 32) * 2
    before = x.clone()
    close(ops.gated(request)(x), activation.gated(request)(x), dtype)
    assert torch.equal(x, before)


@EXAMPLES
@given(tokens=TOKENS, dtype=DTYPES, seed=SEEDS)
def test_embedding(tokens, dtype, seed):
    request = EmbeddingRequest(device=PROPS, vocab=50, size=12, dtype=dtype)
    ids = torch.randint(0, 50, (tokens,), generator=torch.Generator().manual_seed(seed))
    source = Source({"weight": normal(seed, dtype, 50, 12)})
    found, expected = (
        made(ids, made.prepare(source))
        for made in (ops.Embedding(request), embedding.Embedding(request))
    )
    assert torch.equal(found, expected)


def rotary_request(heads: int, kv_heads: int, size: int, dtype: str) -> RotaryRequest:
    return RotaryRequest(
        device=PROPS,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=size,
        rotary_dim=size,
        dtype=dtype,
    )


HEADS = st.sampled_from([(1, 1), (4, 4), (4, 2), (6, 1)])
SIZES = st.sampled_from([16, 24, 64, 128])


@EXAMPLES
@given(tokens=TOKENS, heads=HEADS, size=SIZES, dtype=DTYPES, seed=SEEDS)
def test_rotary(tokens, heads, size, dtype, seed):
    request = rotary_request(*heads, size, dtype)
    positions = torch.randint(0, 200, (tokens,), generator=torch.Generator().manual_seed(seed))
    cos_sin = table(Rope(size), 200, "cpu")
    results = []
    for made in (ops.Rotary(request), rotary.Rotary(request)):
        q, k = (normal(seed + i, dtype, tokens, h, size) for i, h in enumerate(heads))
        made(q, k, made.step(cos_sin, positions))
        results.append((q, k))
    close(results[0], results[1], dtype)


def write_request(kv_heads: int, size: int, dtype: str) -> KVWriteRequest:
    return KVWriteRequest(
        device=PROPS,
        layout="standard",
        kv_heads=kv_heads,
        head_dim=size,
        dtype=dtype,
        kv_dtype=dtype,
        page_size=4,
    )


@st.composite
def slot_lists(draw: st.DrawFn) -> list[int]:
    """Distinct slots of 6 pages of 4 tokens, and any number of -1 between them."""
    slots = draw(st.lists(st.integers(0, 23), min_size=1, max_size=12, unique=True))
    padding = draw(st.integers(0, 4))
    return draw(st.permutations(slots + [-1] * padding))


@EXAMPLES
@given(slots=slot_lists(), dtype=DTYPES, seed=SEEDS)
def test_kv_write(slots, dtype, seed):
    request = write_request(2, 8, dtype)
    k, v = (normal(seed + i, dtype, len(slots), 2, 8) for i in range(2))
    caches = [normal(7, dtype, 6, 4, 2, 2, 8) for _ in range(2)]
    for made, cache in zip((ops.kv_write(request), kv.write(request)), caches, strict=True):
        made(k, v, cache, torch.tensor(slots))
    assert torch.equal(*caches)


@EXAMPLES
@given(slots=slot_lists(), dtype=DTYPES, seed=SEEDS)
def test_kv_write_of_latent_vectors(slots, dtype, seed):
    request = dataclasses.replace(write_request(1, 24, dtype), layout="latent")
    k = normal(seed, dtype, len(slots), 1, 24)
    caches = [normal(7, dtype, 6, 4, 24) for _ in range(2)]
    for made, cache in zip((ops.kv_write(request), kv.write(request)), caches, strict=True):
        made(k, k[..., :16], cache, torch.tensor(slots))
    assert torch.equal(*caches)


@pytest.mark.parametrize("layout", ["standard", "latent"])
@pytest.mark.parametrize("scales", [None, (3.0, 0.5)])
@pytest.mark.parametrize("kv_dtype", ["fp8_e4m3", "fp8_e5m2"])
def test_kv_write_to_a_cache_of_eight_bits(kv_dtype, scales, layout):
    shape = (2, 1, 24) if layout == "standard" else (24,)
    request = dataclasses.replace(
        write_request(1, 24, "bf16"),
        layout=layout,
        kv_dtype=kv_dtype,
        kv_scales=scales is not None,
    )
    k, v = (normal(i, "bf16", 5, 1, 24) for i in range(2))
    more = [] if scales is None else [torch.tensor(scales)]
    caches = [torch.zeros(6, 4, *shape, dtype=torch_dtype(kv_dtype)) for _ in range(2)]
    for made, cache in zip((ops.kv_write(request), kv.write(request)), caches, strict=True):
        made(k, v, cache, torch.tensor([3, -1, 20, 7, 0]), *more)
    assert torch.equal(*(cache.view(torch.uint8) for cache in caches))
    assert caches[0].float().any()


def test_kv_write_of_padding_only_changes_nothing():
    cache = normal(7, "fp32", 6, 4, 2, 2, 8)
    before = cache.clone()
    k = normal(1, "fp32", 3, 2, 8)
    ops.kv_write(write_request(2, 8, "fp32"))(k, k, cache, torch.tensor([-1, -1, -1]))
    assert torch.equal(cache, before)


def composed(qkv, cache, slots, heads, kv_heads, size, q_norm, k_norm, cos_sin, positions):
    """The reference kernels in the order of `layers.attention.AttentionInput`."""
    dtype = "fp32" if qkv.dtype == torch.float32 else "bf16"
    q, k, v = qkv.view(len(qkv), -1, size).split((heads, kv_heads, kv_heads), dim=1)
    if q_norm is not None:
        normed = norm.rms_norm(NormRequest(device=PROPS, size=size, dtype=dtype, eps=1e-6))
        q, k = normed(q, q_norm), normed(k, k_norm)
    turn = rotary.Rotary(rotary_request(heads, kv_heads, size, dtype))
    turn(q, k, turn.step(cos_sin, positions))
    kv.write(write_request(kv_heads, size, dtype))(k, v, cache, slots)
    return q, k, v


@pytest.mark.parametrize("normed", [True, False])
@EXAMPLES
@given(slots=slot_lists(), heads=HEADS, size=SIZES, dtype=DTYPES, seed=SEEDS)
def test_fused_attention_input(normed, slots, heads, size, dtype, seed):
    q_heads, kv_heads = heads
    qk_norm = NormRequest(device=PROPS, size=size, dtype=dtype, eps=1e-6) if normed else None
    request = AttentionInputRequest(
        device=PROPS,
        rotary=rotary_request(q_heads, kv_heads, size, dtype),
        write=write_request(kv_heads, size, dtype),
        qk_norm=qk_norm,
    )
    norms = [normal(seed + i, dtype, size) for i in range(2)] if normed else [None, None]
    children = {f"{n}_norm": Source({"weight": w}) for n, w in zip("qk", norms, strict=True)}
    generator = torch.Generator().manual_seed(seed)
    positions = torch.randint(0, 200, (len(slots),), generator=generator)
    cos_sin, where = table(Rope(size), 200, "cpu"), torch.tensor(slots)
    qkv = normal(seed, dtype, len(slots), (q_heads + 2 * kv_heads) * size)
    caches = [normal(7, dtype, 6, 4, 2, kv_heads, size) for _ in range(2)]
    made = ops.AttentionInput(request)
    packed = made.prepare(Source({}, children))
    found = made(qkv.clone(), caches[0], where, made.step(cos_sin, positions), packed)
    expected = composed(
        qkv.clone(), caches[1], where, q_heads, kv_heads, size, *norms, cos_sin, positions
    )
    close((*found, caches[0]), (*expected, caches[1]), dtype)
