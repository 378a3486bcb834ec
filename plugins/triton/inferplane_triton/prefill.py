"""Prefill attention: a tile is several query tokens of one row, times the heads of one kv head
(flash attention 2, Dao 2023, over pages).

Legend: T tokens, H query heads, K kv heads, G = H/K, D head size, P page, M rows of a tile.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .softmax import LOG2E, key_places, page_of, tile_step


@triton.jit
def prefill_kernel(
    q, cache, out, sinks, kv_scales, tiles, starts, lengths, table, widths,
    q_t, q_h, out_t, out_h, scale, softcap,
    H: tl.constexpr, K: tl.constexpr, SIZE: tl.constexpr, PAGE: tl.constexpr,
    WINDOW: tl.constexpr, CAUSAL: tl.constexpr, SINKS: tl.constexpr, SOFTCAP: tl.constexpr,
    SCALES: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """A program: one tile of queries, one kv head, all keys that the tile may see.

    tiles [n, 2]: a row, and its first query token. Row m of the tile is query m // G, head m % G.
    """
    tile, kv_head = tl.program_id(0), tl.program_id(1)
    if SCALES:
        scale = scale * tl.load(kv_scales)
    row, first = tl.load(tiles + 2 * tile), tl.load(tiles + 2 * tile + 1)
    begin = tl.load(starts + row)
    new = tl.load(starts + row + 1) - begin
    length = tl.load(lengths + row)
    pages = table + row.to(tl.int64) * tl.load(widths)

    G: tl.constexpr = H // K
    QUERIES: tl.constexpr = BLOCK_M // G
    m = tl.arange(0, BLOCK_M)
    query, head = first + m // G, kv_head * G + m % G
    exists = (m < QUERIES * G) & (query < new)
    d = tl.arange(0, BLOCK_D)
    mask = exists[:, None] & (d < SIZE)[None, :]
    token = (begin + query).to(tl.int64)
    place = q + (token * q_t + head * q_h)[:, None] + d[None, :]
    q_MD = tl.load(place, mask=mask, other=0.0)

    before = length - new
    seen = before + query  # the last position that each row of the tile may see, if causal
    high, clear = length, length
    if CAUSAL:
        high = before + tl.minimum(first + QUERIES, new)
        clear = before + first + 1
    low = 0
    if WINDOW > 0:
        low = tl.maximum(before + first - WINDOW + 1, 0)  # pages before it may be gone
        clear = low
    clear = low + (clear - low) // BLOCK_N * BLOCK_N  # all rows of the tile see all keys before
    acc = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)
    top = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    acc, top, total = keys_between(
        acc, top, total, q_MD, cache, pages, low, clear, high, kv_head, seen, scale, softcap,
        K, SIZE, PAGE, 0, CAUSAL, SOFTCAP, BLOCK_N, BLOCK_D, False,
    )  # fmt: skip
    acc, top, total = keys_between(
        acc, top, total, q_MD, cache, pages, clear, high, high, kv_head, seen, scale, softcap,
        K, SIZE, PAGE, WINDOW, CAUSAL, SOFTCAP, BLOCK_N, BLOCK_D, True,
    )  # fmt: skip
    if SCALES:
        acc = acc * tl.load(kv_scales + 1)
    if SINKS:
        sink = tl.load(sinks + head, mask=exists, other=0.0).to(tl.float32) * LOG2E
        new_top = tl.maximum(top, sink)
        fade = tl.exp2(top - new_top)
        acc, total = acc * fade[:, None], total * fade + tl.exp2(sink - new_top)
    acc = acc / tl.where(total == 0.0, 1.0, total)[:, None]
    place = out + (token * out_t + head * out_h)[:, None] + d[None, :]
    tl.store(place, acc.to(out.dtype.element_ty), mask=mask)


@triton.jit
def keys_between(
    acc, top, total, q, cache, pages, low, end, high, kv_head, seen, scale, softcap,
    K: tl.constexpr, SIZE: tl.constexpr, PAGE: tl.constexpr, WINDOW: tl.constexpr,
    CAUSAL: tl.constexpr, SOFTCAP: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    MASKED: tl.constexpr,
):  # fmt: skip
    """Keys from `low` to `end`. Without MASKED, every row of the tile sees all of them."""
    KV_STEP: tl.constexpr = K * SIZE
    n = tl.arange(0, BLOCK_N)
    page = page_of(pages, low + n, low + n < high, PAGE)
    for start in range(low, end, BLOCK_N):
        at = start + n
        valid = at < high
        places = key_places(page, at, kv_head, PAGE, K, SIZE)
        allowed = valid[None, :]
        if CAUSAL:
            allowed = allowed & (at[None, :] <= seen[:, None])
        if WINDOW > 0:
            inside = at[None, :] > seen[:, None] - WINDOW
            allowed = allowed & inside
        acc, top, total = tile_step(
            acc, top, total, q, cache, places, allowed, valid, scale, softcap,
            KV_STEP, SIZE, BLOCK_D, SOFTCAP, MASKED,
        )  # fmt: skip
        page = page_of(pages, at + BLOCK_N, at + BLOCK_N < high, PAGE)
    return acc, top, total
