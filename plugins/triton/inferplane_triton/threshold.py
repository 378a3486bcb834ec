"""Top-k and top-p without a sort: the last kept value is searched for, two bits a pass.

What top-k, top-p and min-p keep is the head of the row in order (value descending, id ascending),
so a threshold and a quota say it: all values above the threshold, and as many equal to it, lowest
ids first, as the quota. Values are compared by keys, unsigned integers of the same order.

Legend: V vocabulary; a row is read in tiles of BLOCK.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def key_of(x):
    """fp32 -> uint32 in the same order; 0.0 and -0.0 are equal."""
    bits = tl.where(x == 0.0, 0.0, x).to(tl.uint32, bitcast=True)
    return tl.where(bits >> 31 == 1, bits ^ 0xFFFFFFFF, bits | 0x80000000)


@triton.jit
def value_of(key):
    bits = tl.where(key >> 31 == 1, key & 0x7FFFFFFF, key ^ 0xFFFFFFFF)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def scores_at(row, start, size, heat, BLOCK: tl.constexpr):
    """Ids, which of them exist, and logits / temperature; -inf beyond the end."""
    ids = start + tl.arange(0, BLOCK)
    inside = ids < size
    logits = tl.load(row + ids, mask=inside, other=float("-inf"))
    return ids, inside, tl.div_rn(logits, heat + tl.zeros((BLOCK,), tl.float32))


@triton.jit
def best_of(row, size, heat, BLOCK: tl.constexpr):
    """The largest score."""
    best = tl.full((BLOCK,), float("-inf"), tl.float32)
    for start in range(0, size, BLOCK):
        _, _, scores = scores_at(row, start, size, heat, BLOCK)
        best = tl.maximum(best, scores)
    return tl.max(best, axis=0)


@triton.jit
def weight_of(scores, best, inside, MASS: tl.constexpr):
    """What a token counts in a search: its share of probability (MASS), or 1."""
    if MASS:
        return tl.where(inside, tl.exp(scores - best), 0.0)
    return tl.where(inside, 1.0, 0.0)


@triton.jit
def above(row, size, heat, best, threshold, MASS: tl.constexpr, BLOCK: tl.constexpr):
    """Weight of the values above a threshold. A count is exact up to 2^24."""
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, size, BLOCK):
        _, inside, scores = scores_at(row, start, size, heat, BLOCK)
        total += weight_of(scores, best, inside & (key_of(scores) > threshold), MASS)
    return tl.sum(total, axis=0)


@triton.jit
def next_keys(found, turn):
    """The three keys that have more than `found` in the next two bits."""
    unit = (found * 0 + 1) << (found * 0 + (30 - 2 * turn))  # in uint32
    return found + unit, found + 2 * unit, found + 3 * unit


@triton.jit
def search(row, size, heat, best, goal, floor, MASS: tl.constexpr, BLOCK: tl.constexpr):
    """The largest key t with a weight of at least `goal` at t and above. Keys up to `floor` are
    known to have it."""
    found = floor * 0
    for turn in range(16):
        one, two, three = next_keys(found, turn)
        w1 = tl.zeros((BLOCK,), tl.float32)
        w2 = tl.zeros((BLOCK,), tl.float32)
        w3 = tl.zeros((BLOCK,), tl.float32)
        for start in range(0, size, BLOCK):
            _, inside, scores = scores_at(row, start, size, heat, BLOCK)
            keys, weights = key_of(scores), weight_of(scores, best, inside, MASS)
            w1 += tl.where(keys >= one, weights, 0.0)
            w2 += tl.where(keys >= two, weights, 0.0)
            w3 += tl.where(keys >= three, weights, 0.0)
        found = tl.where((one <= floor) | (tl.sum(w1, axis=0) >= goal), one, found)
        found = tl.where((two <= floor) | (tl.sum(w2, axis=0) >= goal), two, found)
        found = tl.where((three <= floor) | (tl.sum(w3, axis=0) >= goal), three, found)
    return found
