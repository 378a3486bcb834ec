"""The fused attention input against the composition of the reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from inferplane_sim.blocks import AttentionInput

from inferplane.reference import kv, norm, rotary
from inferplane.spec import (
    AttentionInputRequest,
    KVWriteRequest,
    NormRequest,
    Packed,
    RotaryRequest,
)
from inferplane.spec.torch_types import torch_dtype

pytestmark = pytest.mark.ci(platforms=["sim"], suite="plugins", est_seconds=3)

TOLERANCE = {"fp32": 1e-6, "bf16": 4e-2, "fp16": 4e-3}
HEADS, KV_HEADS, SIZE = 4, 2, 16


def make_request(props: Any, dtype: str, normed: bool) -> AttentionInputRequest:
    return AttentionInputRequest(
        device=props,
        rotary=RotaryRequest(
            device=props,
            heads=HEADS,
            kv_heads=KV_HEADS,
            head_dim=SIZE,
            rotary_dim=SIZE,
            dtype=dtype,
        ),
        write=KVWriteRequest(
            device=props,
            layout="standard",
            kv_heads=KV_HEADS,
            head_dim=SIZE,
            dtype=dtype,
            kv_dtype=dtype,
            page_size=128,
        ),
        qk_norm=NormRequest(device=props, size=SIZE, dtype=dtype, eps=1e-6) if normed else None,
    )


@pytest.mark.parametrize("dtype", sorted(TOLERANCE))
@pytest.mark.parametrize("normed", [False, True])
def test_it_is_norm_then_rotary_then_write(sim, values, dtype, normed):
    request = make_request(sim.boards[0].props, dtype, normed)
    kind = torch_dtype(dtype)
    qkv = values(3, (HEADS + 2 * KV_HEADS) * SIZE, dtype=kind)
    weights = tuple(values(SIZE, dtype=kind, seed=i) for i in (1, 2)) if normed else ()
    table, at, slots = values(9, SIZE), torch.tensor([4, 0, 8]), torch.tensor([130, -1, 5])
    cache = torch.zeros(2, 128, 2, KV_HEADS, SIZE, dtype=kind)

    block, on_device = AttentionInput(request), cache.to("sim")
    packed = Packed(data=tuple(w.to("sim") for w in weights), final_bytes=0)
    state = block.step(table.to("sim"), at.to("sim", torch.int32))
    given = block(qkv.to("sim"), on_device, slots.to("sim", torch.int32), state, packed)

    q, k, v = qkv.view(3, -1, SIZE).split((HEADS, KV_HEADS, KV_HEADS), dim=1)
    if request.qk_norm is not None:
        q, k = (norm.rms_norm(request.qk_norm)(x, w) for x, w in zip((q, k), weights, strict=True))
    turn = rotary.Rotary(request.rotary)
    turn(q, k, turn.step(table, at))
    kv.write(request.write)(k, v, cache, slots)

    for mine, theirs in zip((*given, on_device), (q, k, v, cache), strict=True):
        error = (mine.cpu().float() - theirs.float()).abs().max()
        assert error <= TOLERANCE[dtype] * theirs.float().abs().max()
