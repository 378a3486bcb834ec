"""Decode attention: one query token a row, keys of a row split over several programs (flash
decoding, Dao et al. 2023), and a second pass that joins the splits.

Legend: B rows, H query heads, K kv heads, G = H/K, D head size, P page, S splits, M = G padded.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .softmax import LOG2E, key_places, logits_base_2, page_of, tile_step


@triton.jit
def decode_kernel(
    q, cache, out, parts, sums, sinks, kv_scales, starts, lengths, table, widths,
    q_t, q_h, out_t, out_h, scale, softcap,
    H: tl.constexpr, K: tl.constexpr, SIZE: tl.constexpr, PAGE: tl.constexpr,
    WINDOW: tl.constexpr, SPLITS: tl.constexpr, SINKS: tl.constexpr, SOFTCAP: tl.constexpr,
    SCALES: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """A program: one row, one kv head, one split of the keys, all of the kv head's queries.

    With one split, writes `out`; else parts [B, H, S, D] and their logarithms of sums [B, H, S].
    A row of length 0 is padding. widths: one number, the columns of `table`.
    """
    row, kv_head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    if SCALES:
        scale = scale * tl.load(kv_scales)
    length = tl.load(lengths + row)
    token = tl.load(starts + row).to(tl.int64)
    pages = table + row.to(tl.int64) * tl.load(widths)
    first = 0
    if WINDOW > 0:
        first = tl.maximum(length - WINDOW, 0)
    each = tl.cdiv(tl.cdiv(length - first, BLOCK_N), SPLITS) * BLOCK_N
    low = first + split * each
    high = tl.minimum(low + each, length)

    G: tl.constexpr = H // K
    KV_STEP: tl.constexpr = K * SIZE
    member = tl.arange(0, BLOCK_M)
    head = kv_head * G + member
    d = tl.arange(0, BLOCK_D)
    mask = (member < G)[:, None] & (d < SIZE)[None, :]
    n = tl.arange(0, BLOCK_N)
    place = q + token * q_t + head[:, None] * q_h + d[None, :]
    q_MD = tl.load(place, mask=mask, other=0.0)
    acc = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    top = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    page = page_of(pages, low + n, low + n < high, PAGE)
    for start in range(low, high, BLOCK_N):
        at = start + n
        valid = at < high
        places = key_places(page, at, kv_head, PAGE, K, SIZE)
        if BLOCK_M == 1:
            acc, top, total = one_head_step(
                acc, top, total, q_MD, cache, places, valid, scale, softcap,
                KV_STEP, SIZE, BLOCK_D, SOFTCAP,
            )  # fmt: skip
        else:
            acc, top, total = tile_step(
                acc, top, total, q_MD, cache, places, valid[None, :], valid, scale, softcap,
                KV_STEP, SIZE, BLOCK_D, SOFTCAP, True,
            )  # fmt: skip
        page = page_of(pages, at + BLOCK_N, at + BLOCK_N < high, PAGE)
    if SCALES:
        acc = acc * tl.load(kv_scales + 1)
    if SPLITS == 1:
        if SINKS:
            sink = tl.load(sinks + head, mask=member < G, other=0.0).to(tl.float32) * LOG2E
            acc, total = with_sink(acc, top, total, sink)
        acc = acc / tl.where(total == 0.0, 1.0, total)[:, None]
        place = out + token * out_t + head[:, None] * out_h + d[None, :]
        tl.store(place, acc.to(out.dtype.element_ty), mask=mask)
    else:
        acc = acc / tl.where(total == 0.0, 1.0, total)[:, None]
        part = (row.to(tl.int64) * H + head) * SPLITS + split
        tl.store(parts + part[:, None] * SIZE + d[None, :], acc, mask=mask)
        tl.store(sums + part, top + tl.log2(total), mask=member < G)


@triton.jit
def one_head_step(
    acc, top, total, q, kv, places, valid, scale, softcap,
    KV_STEP: tl.constexpr, SIZE: tl.constexpr, BLOCK_D: tl.constexpr, SOFTCAP: tl.constexpr,
):  # fmt: skip
    """As `tile_step` for one query head a kv head, where a matrix unit would do 1/16 of its work.

    q and acc [1, D]."""
    d = tl.arange(0, BLOCK_D)[None, :]
    inside = valid[:, None] & (d < SIZE)
    key = tl.load(kv + places[:, None] + d, mask=inside, other=0.0).to(tl.float32)
    scores = tl.sum(q.to(tl.float32) * key, axis=1)
    scores = tl.where(valid, logits_base_2(scores, scale, softcap, SOFTCAP), float("-inf"))
    new_top = tl.maximum(top, tl.max(scores, axis=0))
    weights = tl.exp2(scores[:, None] - new_top[None, :])
    fade = tl.exp2(top - new_top)
    total = total * fade + tl.sum(weights, axis=0)
    value = tl.load(kv + KV_STEP + places[:, None] + d, mask=inside, other=0.0).to(tl.float32)
    acc = acc * fade[:, None] + tl.sum(weights * value, axis=0)[None, :]
    return acc, new_top, total


@triton.jit
def with_sink(acc, top, total, sink):
    """A sink is one more key, without a value."""
    new_top = tl.maximum(top, sink)
    fade = tl.exp2(top - new_top)
    return acc * fade[:, None], total * fade + tl.exp2(sink - new_top)


@triton.jit
def join_kernel(
    parts, sums, out, sinks, starts, out_t, out_h, H: tl.constexpr, SIZE: tl.constexpr,
    SPLITS: tl.constexpr, SINKS: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """The second pass: one program joins the splits of one head of one row. Splits without a key
    have a sum of 0, whose logarithm is -inf."""
    row, head = tl.program_id(0), tl.program_id(1)
    token = tl.load(starts + row).to(tl.int64)
    split = tl.arange(0, SPLITS)
    d = tl.arange(0, BLOCK_D)
    part = (row.to(tl.int64) * H + head) * SPLITS + split
    logs = tl.load(sums + part)
    top = tl.max(logs, axis=0)
    if SINKS:
        sink = tl.load(sinks + head).to(tl.float32) * LOG2E
        top = tl.maximum(top, sink)
    top = tl.where(top == float("-inf"), 0.0, top)
    weights = tl.exp2(logs - top)
    total = tl.sum(weights, axis=0)
    if SINKS:
        total += tl.exp2(sink - top)
    mask = (d < SIZE)[None, :] & (weights > 0.0)[:, None]
    values = tl.load(parts + part[:, None] * SIZE + d[None, :], mask=mask, other=0.0)
    mixed = tl.sum(values * weights[:, None], axis=0) / tl.where(total == 0.0, 1.0, total)
    tl.store(out + token * out_t + head * out_h + d, mixed.to(out.dtype.element_ty), mask=d < SIZE)
