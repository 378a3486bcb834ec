"""Writes into fp8 caches, strided heads, offsets of weights: what the kit does not draw."""

from __future__ import annotations

import pytest
import torch
from inferplane_triton.attention_input import AttentionInput
from inferplane_triton.norm import rms_norm
from inferplane_triton.write import kv_write
from interpreter_platform import PROPS

from inferplane.reference.kv import write as reference_write
from inferplane.reference.norm import rms_norm as reference_norm
from inferplane.reference.rotary import Rotary as ReferenceRotary
from inferplane.spec import (
    AttentionInputRequest,
    KVWriteRequest,
    NormRequest,
    Packed,
    RotaryRequest,
)
from inferplane.spec.torch_types import torch_dtype

FP8 = torch.float8_e4m3fn


def write_request(**fields) -> KVWriteRequest:
    given = {"kv_heads": 2, "head_dim": 24, "dtype": "fp32", "kv_dtype": "fp32", "page_size": 4}
    return KVWriteRequest(device=PROPS, layout="standard", **given | fields)


@pytest.mark.parametrize("index", [torch.int32, torch.int64])
def test_a_slot_of_minus_one_writes_nothing(index):
    k, v = torch.randn(2, 3, 2, 24)
    cache = torch.full((2, 4, 2, 2, 24), 7.0)
    kv_write(write_request())(k, v, cache, torch.tensor([5, -1, 0], dtype=index))
    flat = cache.view(8, 2, 2, 24)
    assert torch.equal(flat[5], torch.stack([k[0], v[0]]))
    assert torch.equal(flat[0], torch.stack([k[2], v[2]]))
    assert bool((flat[[1, 2, 3, 4, 6, 7]] == 7.0).all())


def test_an_fp8_cache_gets_the_nearest_values_and_no_nan(mended):
    values = torch.tensor([0.3, -1.7, 447.0, 460.0, -9000.0, 0.0, 1e-4, 240.0] * 3)
    k = values.expand(1, 2, 24).contiguous()
    cache = torch.zeros(1, 4, 2, 2, 24, dtype=FP8)
    kv_write(write_request(kv_dtype="fp8_e4m3"))(k, k, cache, torch.tensor([2]))
    right = k.clamp(-448, 448).to(FP8).float()
    assert torch.equal(cache[0, 2, 0].float(), right[0])


def inputs(kv_dtype: str = "fp32", norm: bool = True, rotary_dim: int = 24, style: str = "neox"):
    rotary = RotaryRequest(
        device=PROPS, heads=3, kv_heads=2, head_dim=24, rotary_dim=rotary_dim, dtype="fp32",
        style=style,
    )  # fmt: skip
    normed = NormRequest(device=PROPS, size=24, dtype="fp32", eps=1e-5, weight_offset=1.0)
    write = write_request(kv_dtype=kv_dtype)
    return AttentionInputRequest(
        device=PROPS, rotary=rotary, write=write, qk_norm=normed if norm else None
    )


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize(("rotary_dim", "style"), [(24, "neox"), (24, "interleaved"), (10, "neox")])
def test_one_pass_equals_norm_rotary_and_write_one_after_the_other(norm, rotary_dim, style):
    request = inputs(norm=norm, rotary_dim=rotary_dim, style=style)
    tokens, weight = 5, torch.randn(2, 24)
    qkv, table = torch.randn(tokens, 7 * 24), torch.randn(16, rotary_dim)
    positions, slots = torch.tensor([0, 7, 3, 15, 1]), torch.tensor([3, -1, 0, 7, 2])
    q, k, v = (x.clone() for x in qkv.view(tokens, 7, 24).split((3, 2, 2), 1))
    if norm:
        q, k = (reference_norm(request.qk_norm)(x, w) for x, w in ((q, weight[0]), (k, weight[1])))
    rotary = ReferenceRotary(request.rotary)
    rotary(q, k, rotary.step(table, positions))
    right, cache = (torch.zeros(2, 4, 2, 2, 24) for _ in range(2))
    reference_write(request.write)(k, v, right, slots)

    kernel = AttentionInput(request)
    packed = Packed(data=weight if norm else None, final_bytes=0)
    found = kernel(qkv, cache, slots, kernel.step(table, positions), packed)
    for got, wanted in zip(found, (q, k, v), strict=True):
        assert torch.allclose(got, wanted, atol=1e-5, rtol=1e-5)
    assert torch.allclose(cache, right, atol=1e-5, rtol=1e-5)


def test_one_pass_into_an_fp8_cache(mended):
    request = inputs("fp8_e4m3", norm=False)
    qkv, table = torch.randn(2, 7 * 24), torch.zeros(4, 24)
    table[:, :12] = 1.0  # no turn
    kept = qkv.view(2, 7, 24)[:, 3:].unflatten(1, (2, 2)).clone()
    cache = torch.zeros(1, 4, 2, 2, 24, dtype=FP8)
    kernel = AttentionInput(request)
    state = kernel.step(table, torch.tensor([1, 2]))
    kernel(qkv, cache, torch.tensor([1, 3]), state, Packed(data=None, final_bytes=0))
    assert torch.equal(cache[0, [1, 3]].float(), kept.to(FP8).float())


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
@pytest.mark.parametrize("size", [1, 24, 130])
def test_the_norm_of_strided_heads(dtype, size):
    request = NormRequest(device=PROPS, size=size, dtype=dtype, eps=1e-6, weight_offset=1.0)
    x = torch.randn(3, 5, size).to(torch_dtype(dtype))[:, 1:4]
    weight = torch.randn(size).to(x.dtype)
    right = reference_norm(request)(x, weight)
    assert torch.allclose(rms_norm(request)(x, weight), right, atol=4e-3, rtol=4e-3)


def test_bfloat16_without_the_patch_is_cut_off_and_with_it_rounded():
    from mended import patch

    request = NormRequest(device=PROPS, size=64, dtype="bf16", eps=1e-6, weight_offset=1.0)
    x, weight = torch.randn(4, 64).bfloat16(), torch.zeros(64).bfloat16()
    right = reference_norm(request)(x, weight)
    undo = patch()
    mended = rms_norm(request)(x, weight)
    undo()
    assert torch.equal(mended, right)
    assert not torch.equal(rms_norm(request)(x, weight), right)
