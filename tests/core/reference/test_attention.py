"""The reference attention against a loop over heads, queries and keys."""

import math

import numpy as np
import pytest
import torch

from inferplane.reference.attention import Attention
from inferplane.spec import AttentionMetadata, AttentionRequest, DeviceProps, GroupKind

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=4)

PROPS = DeviceProps(name="a", profile="a", memory_bytes=1, dtypes=frozenset({"fp32"}))
TOLERANCE = 1e-5
HEADS, KV_HEADS, SIZE = 4, 2, 8


def kernel(window: int = 0, softcap: float = 0.0, sinks: bool = False, causal: bool = True):
    return Attention(
        AttentionRequest(
            device=PROPS,
            heads=HEADS,
            kv_heads=KV_HEADS,
            head_dim=SIZE,
            dtype="fp32",
            kv_dtype="fp32",
            page_size=4,
            scale=0.3,
            kind=GroupKind.WINDOW if window else GroupKind.FULL,
            window=window,
            softcap=softcap,
            sinks=sinks,
            causal=causal,
        )
    )


def naive(q, k, v, window=0, softcap=0.0, sinks=None, causal=True):
    """[N, H, D]: every score, weight and sum written out, in double precision."""
    new, length = len(q), len(k)
    out = np.zeros((new, HEADS, SIZE))
    for head in range(HEADS):
        group = head * KV_HEADS // HEADS
        for row in range(new):
            at = length - new + row
            last = at if causal else length - 1
            keys = range(max(0, at - window + 1) if window else 0, last + 1)
            scores = [0.3 * float(q[row, head].double() @ k[j, group].double()) for j in keys]
            if softcap:
                scores = [softcap * math.tanh(s / softcap) for s in scores]
            total = sum(math.exp(s) for s in scores)
            if sinks is not None:
                total += math.exp(float(sinks[head]))
            for score, j in zip(scores, keys, strict=True):
                out[row, head] += math.exp(score) / total * v[j, group].double().numpy()
    return torch.from_numpy(out).float()


def draw(new: int, length: int):
    generator = torch.Generator().manual_seed(new * 100 + length)
    shapes = (new, HEADS, SIZE), (length, KV_HEADS, SIZE), (length, KV_HEADS, SIZE)
    return [torch.randn(shape, generator=generator) for shape in shapes]


@pytest.mark.parametrize(("new", "length"), [(1, 1), (1, 9), (5, 5), (4, 9)])
@pytest.mark.parametrize(
    "semantics",
    [
        {},
        {"window": 3},
        {"window": 1},
        {"softcap": 1.5},
        {"causal": False},
        {"sinks": torch.tensor([0.0, 2.0, -3.0, 5.0])},
        {"window": 3, "softcap": 2.0, "sinks": torch.tensor([1.0, 0.5, -1.0, 3.0])},
    ],
    ids=lambda semantics: "+".join(semantics) or "plain",
)
def test_attend_is_the_written_out_sum(new, length, semantics):
    q, k, v = draw(new, length)
    sinks = semantics.get("sinks")
    made = kernel(**(semantics | {"sinks": sinks is not None}))
    found = made.attend(q, k, v, sinks)
    torch.testing.assert_close(found, naive(q, k, v, **semantics), atol=TOLERANCE, rtol=0)


def metadata(rows: list[tuple[int, int]], table: list[list[int]]) -> AttentionMetadata:
    return AttentionMetadata(
        query_starts=np.cumsum([0, *(new for new, _ in rows)]).astype(np.int32),
        context_lens=np.array([length for _, length in rows], dtype=np.int32),
        page_table=np.array(table, dtype=np.int32),
        slots=np.empty(0, dtype=np.int64),
        decodes=0,
        device_slots=torch.empty(0),
    )


def test_run_gathers_the_pages_of_each_row():
    q, k, v = draw(3, 6)
    q2, k2, v2 = draw(1, 3)
    cache = torch.full((6, 4, 2, KV_HEADS, SIZE), 1e9)
    cache[5, :, 0], cache[5, :, 1] = k[:4], v[:4]
    cache[1, :2, 0], cache[1, :2, 1] = k[4:], v[4:]
    cache[3, :3, 0], cache[3, :3, 1] = k2, v2
    made, out = kernel(), torch.empty(4, HEADS, SIZE)
    plan = made.plan(metadata([(3, 6), (1, 3)], [[5, 1], [3, -1]]), None)
    made.run(torch.cat([q, q2]), q, q, cache, plan, out)
    expected = torch.cat([naive(q, k, v), naive(q2, k2, v2)])
    torch.testing.assert_close(out, expected, atol=TOLERANCE, rtol=0)


def test_a_page_that_left_the_window_is_not_read():
    q, k, v = draw(1, 6)
    cache = torch.full((2, 4, 2, KV_HEADS, SIZE), float("nan"))
    cache[1, :2, 0], cache[1, :2, 1] = k[4:], v[4:]
    made, out = kernel(window=2), torch.empty(1, HEADS, SIZE)
    made.run(q, q, q, cache, made.plan(metadata([(1, 6)], [[-1, 1]]), None), out)
    torch.testing.assert_close(out, naive(q, k, v, window=2), atol=TOLERANCE, rtol=0)


def test_a_padded_row_without_tokens_is_left_alone():
    q, k, v = draw(1, 3)
    cache = torch.zeros(1, 4, 2, KV_HEADS, SIZE)
    cache[0, :3, 0], cache[0, :3, 1] = k, v
    made, out = kernel(), torch.empty(1, HEADS, SIZE)
    made.run(q, q, q, cache, made.plan(metadata([(1, 3), (0, 0)], [[0], [-1]]), None), out)
    torch.testing.assert_close(out, naive(q, k, v), atol=TOLERANCE, rtol=0)
