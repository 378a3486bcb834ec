"""The compiled element ops against the reference, over drawn shapes."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inferplane.layers.rotary import Rope, table
from inferplane.platforms.cpu.native import ops
from inferplane.reference import activation, kv, norm, rotary
from inferplane.spec import (
    ActivationRequest,
    AttentionInputRequest,
    DeviceProps,
    KVWriteRequest,
    NormRequest,
    RotaryRequest,
)
from inferplane.spec.torch_types import torch_dtype

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=5)

PROPS = DeviceProps(name="a", profile="a", memory_bytes=1, dtypes=frozenset({"fp32", "bf16"}))
TOLERANCE = {"fp32": {"rtol": 1e-5, "atol": 1e-5}, "bf16": {"rtol": 3e-2, "atol": 3e-2}}
EXAMPLES = settings(max_examples=40, deadline=None, derandomize=True)
DTYPES = st.sampled_from(["fp32", "bf16"])
TOKENS = st.sampled_from([1, 2, 7, 300])
SEEDS = st.integers(0, 1000)


class Source:
    tied_to = ""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self.tensors = tensors

    def child(self, name: str) -> "Source":
        return Source({"weight": self.tensors[name]})

    def read(self, name: str, part: str | None = None) -> torch.Tensor:
        return self.tensors[name]


def normal(seed: int, dtype: str, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(torch_dtype(dtype))


def close(found: Any, expected: Any, dtype: str) -> None:
    torch.testing.assert_close(found, expected, **TOLERANCE[dtype])


@EXAMPLES
@given(tokens=TOKENS, size=st.sampled_from([16, 64, 1040]), dtype=DTYPES, seed=SEEDS)
def test_rms_norm(tokens, size, dtype, seed):
    request = NormRequest(device=PROPS, size=size, dtype=dtype, eps=1e-5)
    x, weight = normal(seed, dtype, tokens, size), normal(seed + 1, dtype, size)
    close(ops.rms_norm(request)(x, weight), norm.rms_norm(request)(x, weight), dtype)


def test_rms_norm_of_strided_heads():
    request = NormRequest(device=PROPS, size=32, dtype="fp32", eps=1e-5)
    heads, weight = normal(1, "fp32", 5, 6, 32)[:, :4], normal(2, "fp32", 32)
    close(ops.rms_norm(request)(heads, weight), norm.rms_norm(request)(heads, weight), "fp32")


@EXAMPLES
@given(tokens=TOKENS, size=st.sampled_from([16, 64, 1040]), dtype=DTYPES, seed=SEEDS)
def test_add_rms_norm(tokens, size, dtype, seed):
    request = NormRequest(op="norm.add_rms", device=PROPS, size=size, dtype=dtype, eps=1e-5)
    x, residual = normal(seed, dtype, tokens, size), normal(seed + 1, dtype, tokens, size)
    weight = normal(seed + 2, dtype, size)
    expected = norm.add_rms_norm(request)(x.clone(), residual.clone(), weight)
    close(ops.add_rms_norm(request)(x, residual, weight), expected, dtype)


@EXAMPLES
@given(tokens=TOKENS, size=st.sampled_from([16, 96]), dtype=DTYPES, seed=SEEDS)
def test_silu(tokens, size, dtype, seed):
    request = ActivationRequest(device=PROPS, size=size, dtype=dtype, kind="silu")
    x = normal(seed, dtype, tokens, 2 * size) * 20
    expected = activation.gated(request)(x.clone())
    close(ops.silu(request)(x), expected, dtype)


@pytest.mark.parametrize("value", [0.0, -0.0, 200.0, -200.0, 1e38, float("inf"), float("nan")])
def test_silu_of_extreme_gates(value):
    request = ActivationRequest(device=PROPS, size=16, dtype="fp32", kind="silu")
    x = torch.ones(1, 32)
    x[0, :16] = value
    torch.testing.assert_close(ops.silu(request)(x), activation.gated(request)(x), equal_nan=True)


@pytest.mark.parametrize("normed", [True, False])
@EXAMPLES
@given(
    tokens=st.sampled_from([1, 5, 40]),
    heads=st.sampled_from([(1, 1), (4, 4), (4, 2), (6, 1)]),
    size=st.sampled_from([32, 64, 128]),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_attention_input(normed, tokens, heads, size, dtype, seed):
    (q_heads, kv_heads), shared = heads, {"device": PROPS, "dtype": dtype}
    turn = RotaryRequest(**shared, heads=q_heads, kv_heads=kv_heads, head_dim=size, rotary_dim=size)
    write = KVWriteRequest(
        **shared, layout="standard", kv_heads=kv_heads, head_dim=size, kv_dtype=dtype, page_size=4
    )
    qk_norm = NormRequest(**shared, size=size, eps=1e-6) if normed else None
    request = AttentionInputRequest(device=PROPS, rotary=turn, write=write, qk_norm=qk_norm)
    generator = torch.Generator().manual_seed(seed)
    positions = torch.randint(0, 200, (tokens,), generator=generator)
    slots = torch.randperm(48, generator=generator)[:tokens]
    slots[::3] = -1  # padding
    weights = {name: normal(seed + i, dtype, size) for i, name in enumerate(("q_norm", "k_norm"))}
    cos_sin = table(Rope(size), 200, "cpu")
    qkv = normal(seed, dtype, tokens, (q_heads + 2 * kv_heads) * size)
    caches = [normal(7, dtype, 12, 4, 2, kv_heads, size) for _ in range(2)]

    made = ops.AttentionInput(request)
    packed = made.prepare(Source(weights))
    found = made(qkv.clone(), caches[0], slots, made.step(cos_sin, positions), packed)

    q, k, v = qkv.view(tokens, -1, size).split((q_heads, kv_heads, kv_heads), dim=1)
    if qk_norm is not None:
        normal_of = norm.rms_norm(qk_norm)
        q, k = normal_of(q, weights["q_norm"]), normal_of(k, weights["k_norm"])
    kernel = rotary.Rotary(turn)
    kernel(q, k, kernel.step(cos_sin, positions))
    kv.write(write)(k, v, caches[1], slots)
    close((*found, caches[0]), (q, k, v, caches[1]), dtype)
