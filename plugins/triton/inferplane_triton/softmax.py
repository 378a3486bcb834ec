"""The online softmax (Milakov and Gimelshein 2018) over tiles of keys, shared by attention kernels.

Legend: M rows of a tile (queries and heads), N keys of a tile, D head size. Logits are in base 2.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .activation import tanh

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def logits_base_2(scores, scale, softcap, SOFTCAP: tl.constexpr):
    """q k^T -> the logits of exp2, capped where the model says so."""
    if SOFTCAP:
        return softcap * tanh(scores * (scale / softcap)) * LOG2E
    return scores * (scale * LOG2E)


@triton.jit
def page_of(table, at, valid, PAGE: tl.constexpr):
    """The pages of positions `at` of a row. Loops read them one tile ahead: only so does the
    compiler keep copies of several tiles under way, since no address waits for another load.

    table: the row's pages. Entries of positions that are not valid are not read."""
    return tl.load(table + at // PAGE, mask=valid, other=0)


@triton.jit
def key_places(page, at, head, PAGE: tl.constexpr, KV_HEADS: tl.constexpr, SIZE: tl.constexpr):
    """Offsets of keys at positions `at`, on `page`; values lie KV_HEADS * SIZE behind."""
    return (page.to(tl.int64) * PAGE + at % PAGE) * (2 * KV_HEADS * SIZE) + head * SIZE


@triton.jit
def tile_step(
    acc, top, total, q, kv, places, logit_mask, read_mask, scale, softcap,
    KV_STEP: tl.constexpr, SIZE: tl.constexpr, BLOCK_D: tl.constexpr, SOFTCAP: tl.constexpr,
    MASKED: tl.constexpr,
):  # fmt: skip
    """One tile of keys. acc [M, D], top and total [M]: weighted values, largest logit, sum.

    logit_mask [M, N]: which keys each row may see (used if MASKED). read_mask [N]: which exist.
    scale is above 0.
    """
    d = tl.arange(0, BLOCK_D)[None, :]
    inside = read_mask[:, None] & (d < SIZE)
    key = tl.load(kv + places[:, None] + d, mask=inside, other=0.0).to(tl.float32).to(q.dtype)
    scores = tl.dot(q, tl.trans(key), input_precision="ieee")
    # without a cap, the scale goes into one multiply-and-add an element
    factor = 1.0 if SOFTCAP else scale * LOG2E
    if SOFTCAP:
        scores = logits_base_2(scores, scale, softcap, SOFTCAP)
    if MASKED:
        scores = tl.where(logit_mask, scores, float("-inf"))
    new_top = tl.maximum(top, tl.max(scores, axis=1) * factor)
    shift = tl.where(new_top == float("-inf"), 0.0, new_top) if MASKED else new_top
    weights = tl.exp2(scores * factor - shift[:, None])
    fade = tl.exp2(top - shift)
    total = total * fade + tl.sum(weights, axis=1)
    value = (
        tl.load(kv + KV_STEP + places[:, None] + d, mask=inside, other=0.0)
        .to(tl.float32)
        .to(q.dtype)
    )
    acc = acc * fade[:, None]
    acc = tl.dot(weights.to(q.dtype), value, acc, input_precision="ieee")
    return acc, new_top, total
