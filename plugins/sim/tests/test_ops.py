"""Every op that the simulator offers against the reference on the host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from inferplane_sim import ops
from inferplane_sim.errors import SimIndexError

from inferplane.plugins.catalog import Catalog
from inferplane.plugins.discovery import discover
from inferplane.plugins.resolution import Resolver
from inferplane.plugins.selection import select
from inferplane.reference import activation, embedding, kv, norm, rotary
from inferplane.spec import (
    ActivationRequest,
    DeviceProps,
    EmbeddingRequest,
    KVWriteRequest,
    NormRequest,
    Packed,
    RotaryRequest,
)
from inferplane.spec.torch_types import torch_dtype

pytestmark = pytest.mark.ci(platforms=["sim"], suite="plugins", est_seconds=5)

# the reference rounds between its steps, the kernels once at the end
TOLERANCE = {"fp32": 1e-6, "bf16": 2e-2, "fp16": 2e-3}
DTYPES = sorted(TOLERANCE)


@pytest.fixture
def props(sim) -> DeviceProps:
    return sim.boards[0].props


def close(given: torch.Tensor, expected: torch.Tensor, dtype: str) -> None:
    torch.testing.assert_close(
        given.cpu().float(), expected.float(), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_rms_norm(props, values, dtype, offset):
    request = NormRequest(device=props, size=24, dtype=dtype, eps=1e-6, weight_offset=offset)
    kind = torch_dtype(dtype)
    x, weight = values(5, 24, dtype=kind), values(24, dtype=kind, seed=1)
    given = ops.rms_norm(request)(x.to("sim"), weight.to("sim"))
    close(given, norm.rms_norm(request)(x, weight), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_add_rms_norm(props, values, dtype):
    request = NormRequest(op="norm.add_rms", device=props, size=24, dtype=dtype, eps=1e-6)
    kind = torch_dtype(dtype)
    x, residual = values(5, 24, dtype=kind), values(5, 24, dtype=kind, seed=1)
    weight = values(24, dtype=kind, seed=2)
    given = ops.add_rms_norm(request)(x.to("sim"), residual.to("sim"), weight.to("sim"))
    for mine, theirs in zip(given, norm.add_rms_norm(request)(x, residual, weight), strict=True):
        close(mine, theirs, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "limit"), [("silu", 0.0), ("gelu", 0.0), ("gelu_tanh", 0.7)])
def test_gated(props, values, dtype, kind, limit):
    request = ActivationRequest(device=props, size=12, dtype=dtype, kind=kind, limit=limit)
    x = values(5, 24, dtype=torch_dtype(dtype))
    close(ops.gated(request)(x.to("sim")), activation.gated(request)(x), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_embedding(props, values, dtype, scale):
    request = EmbeddingRequest(device=props, vocab=9, size=6, dtype=dtype, scale=scale)
    table, ids = values(9, 6, dtype=torch_dtype(dtype)), torch.tensor([3, 0, 8, 3])
    packed = Packed(data=table.to("sim"), final_bytes=table.nbytes)
    given = ops.Embedding(request)(ids.to("sim", torch.int32), packed)
    reference = embedding.Embedding(request)
    expected = table[ids] * reference.scale
    close(given, expected, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("style", ["neox", "interleaved"])
@pytest.mark.parametrize("size", [16, 8])
def test_rotary(props, values, dtype, style, size):
    request = RotaryRequest(
        device=props, heads=4, kv_heads=2, head_dim=16, rotary_dim=size, dtype=dtype, style=style
    )
    kind = torch_dtype(dtype)
    table, at = values(10, size), torch.tensor([7, 0, 3])
    q, k = values(3, 4, 16, dtype=kind), values(3, 2, 16, dtype=kind, seed=1)
    mine, theirs = ops.Rotary(request), rotary.Rotary(request)
    on_device = q.to("sim"), k.to("sim")
    mine(*on_device, mine.step(table.to("sim"), at.to("sim", torch.int32)))
    theirs(q, k, theirs.step(table, at))
    for given, expected in zip(on_device, (q, k), strict=True):
        close(given, expected, dtype)


def write_request(props: DeviceProps) -> KVWriteRequest:
    return KVWriteRequest(
        device=props,
        layout="standard",
        kv_heads=2,
        head_dim=8,
        dtype="fp32",
        kv_dtype="fp32",
        page_size=128,
    )


def test_kv_write_skips_padding(props, values):
    k, v = values(4, 2, 8), values(4, 2, 8, seed=1)
    slots = torch.tensor([255, -1, 0, 128])
    mine, theirs = torch.zeros(2, 128, 2, 2, 8, device="sim"), torch.zeros(2, 128, 2, 2, 8)
    request = write_request(props)
    ops.kv_write(request)(k.to("sim"), v.to("sim"), mine, slots.to("sim", torch.int32))
    kv.write(request)(k, v, theirs, slots)
    assert torch.equal(mine.cpu(), theirs)


def test_wide_indices_are_refused_by_every_kernel(props):
    x, wide = torch.zeros(1, 2, 8, device="sim"), torch.zeros(1, dtype=torch.int64, device="sim")
    table = torch.zeros(4, 8, device="sim")
    request = EmbeddingRequest(device=props, vocab=4, size=8, dtype="fp32")
    cache = torch.zeros(1, 128, 2, 2, 8, device="sim")
    calls: list[Any] = [
        lambda: ops.Embedding(request)(wide, Packed(data=table, final_bytes=0)),
        lambda: ops.rotary_rows(table, wide),
        lambda: ops.kv_write(write_request(props))(x, x, cache, wide),
    ]
    for call in calls:
        with pytest.raises(SimIndexError, match="int64_index"):
            call()


def test_a_host_tensor_is_refused(props):
    request = NormRequest(device=props, size=4, dtype="fp32", eps=1e-6)
    with pytest.raises(RuntimeError, match="a tensor is on cpu"):
        ops.rms_norm(request)(torch.ones(1, 4, device="sim"), torch.ones(4))


def test_results_wait_as_any_other_work(props):
    request = NormRequest(device=props, size=4, dtype="fp32", eps=0.0)
    y = ops.rms_norm(request)(torch.ones(1, 4, device="sim"), torch.ones(4, device="sim"))
    assert y.raw.isnan().all()
    assert y.tolist() == [[1.0] * 4]


def test_what_it_does_not_have_is_refused_with_a_reason():
    plugins = discover()
    catalog = Catalog(plugins, select(plugins, "sim"))
    request = replace(write_request(catalog.props), page_size=16)
    choice = Resolver(catalog.candidates).choose(request)
    assert choice.candidate.name == "reference.kv.write"
    assert any("page size is 16, the device has 128" in r.reason for r in choice.rejected)
