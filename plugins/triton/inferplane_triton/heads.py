"""The head of a row, tile by tile: its largest scores, in the order of ids. Tiles are searched at
once, each in registers, so that top-k and top-p do not pass over a vocabulary dozens of times.

Where nothing but the best is asked for, a tile's best is all that is kept of it.
What top-k keeps lies in the heads if k is not above MOST. What top-p keeps does if its threshold is
above everything that was left out, which is checked.

Legend: B rows, V vocabulary, S tiles of a row, MOST candidates of a tile.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .noise import gumbel
from .threshold import key_of, next_keys, scores_at

MOST = 64


@triton.jit
def heads_kernel(
    logits, greedy, temperature, seeds, scores, names, cuts, tops, masses, row_step, size, tiles,
    RANDOM: tl.constexpr, LIMITED: tl.constexpr, MOST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One tile of one row. LIMITED: rows that draw have top-k or top-p.

    Those get their head. scores, names [B, S, MOST]: logits / temperature and their ids; -inf and 0
    where a tile has fewer. cuts [B, S]: the key that nothing left out is above, 0 where nothing
    was. tops, masses [B, S]: the largest score, and the sum of exp(score - it) over the tile.

    Of others the best id is all that is asked for, of logits, or of scores with their noise: tops
    has the largest of the tile, cuts its id.
    """
    row, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    here, start, logits = row * tiles + tile, tile * BLOCK, logits + row * row_step
    if LIMITED:
        if tl.load(greedy + row) == 0:
            heat = tl.load(temperature + row)
            head(logits, heat, scores, names, cuts, tops, masses, here, start, size, MOST, BLOCK)
        else:
            best(logits, 1.0, seeds, cuts, tops, here, start, size, False, BLOCK)
    elif RANDOM:
        if tl.load(greedy + row) == 0:
            heat = tl.load(temperature + row)
            best(logits, heat, seeds + 2 * row, cuts, tops, here, start, size, True, BLOCK)
        else:
            best(logits, 1.0, seeds, cuts, tops, here, start, size, False, BLOCK)
    else:
        best(logits, 1.0, seeds, cuts, tops, here, start, size, False, BLOCK)


@triton.jit
def head(
    logits, heat, scores, names, cuts, tops, masses, here, start, size, MOST: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    ids, inside, found = scores_at(logits, start, size, heat, BLOCK)
    keys = key_of(found)
    exist = tl.minimum(size - start, BLOCK)
    count = tl.minimum(exist, MOST)
    cut = largest_with(keys, inside, count)
    over, tie = inside & (keys > cut), inside & (keys == cut)
    quota = count - tl.sum(over.to(tl.int32), axis=0)
    kept = over | (tie & (tl.cumsum(tie.to(tl.int32), axis=0) <= quota))
    place = here * MOST + tl.cumsum(kept.to(tl.int32), axis=0) - 1
    tl.store(scores + place, found, mask=kept)
    tl.store(names + place, ids, mask=kept)
    rest = tl.arange(0, MOST)
    tl.store(scores + here * MOST + rest, float("-inf"), mask=rest >= count)
    tl.store(names + here * MOST + rest, 0, mask=rest >= count)
    tl.store(cuts + here, tl.where(exist > count, cut, cut * 0).to(tl.int32, bitcast=True))
    top = tl.max(found, axis=0)
    weights = tl.where(found == float("-inf"), 0.0, tl.exp(found - top))
    tl.store(tops + here, top)
    tl.store(masses + here, tl.sum(weights, axis=0))


@triton.jit
def best(
    logits, heat, seed, cuts, tops, here, start, size, NOISE: tl.constexpr, BLOCK: tl.constexpr
):
    ids = start + tl.arange(0, BLOCK)
    x = tl.load(logits + ids, mask=ids < size, other=float("-inf"))
    if NOISE:
        x = tl.div_rn(x, heat + tl.zeros((BLOCK,), tl.float32))
        first, second = tl.load(seed).to(tl.uint32), tl.load(seed + 1).to(tl.uint32)
        x += gumbel(ids.to(tl.uint32), first, second)
    tl.store(tops + here, tl.max(x, axis=0))
    tl.store(cuts + here, start + tl.argmax(x, axis=0, tie_break_left=True))


@triton.jit
def largest_with(keys, inside, count):
    """The largest key that `count` of the keys are not below: two bits a pass, as `search`."""
    found = tl.full((), 0, tl.uint32)
    for turn in range(16):
        one, two, three = next_keys(found, turn)
        found = tl.where(holds(keys, inside, one, count), one, found)
        found = tl.where(holds(keys, inside, two, count), two, found)
        found = tl.where(holds(keys, inside, three, count), three, found)
    return found


@triton.jit
def holds(keys, inside, least, count):
    return tl.sum((inside & (keys >= least)).to(tl.int32), axis=0) >= count


@triton.jit
def mass_of(tops, masses, first, tiles, best, TILES: tl.constexpr):
    """Of a whole row, relative to its best score. first: its first tile."""
    at = tl.arange(0, TILES)
    top = tl.load(tops + first + at, mask=at < tiles, other=float("-inf"))
    mass = tl.load(masses + first + at, mask=at < tiles, other=0.0)
    return tl.sum(tl.where(mass > 0.0, mass * tl.exp(top - best), 0.0), axis=0)


@triton.jit
def left_out(cuts, first, tiles, key, TILES: tl.constexpr):
    """Whether a tile may have left out a score with this key or a larger one."""
    at = tl.arange(0, TILES)
    cut = tl.load(cuts + first + at, mask=at < tiles, other=0).to(tl.uint32, bitcast=True)
    return tl.sum((cut >= key).to(tl.int32), axis=0) > 0


@triton.jit
def best_id(cuts, tops, first, tiles, TILES: tl.constexpr):
    """The lowest id of the largest of a row that has no head. first: its first tile."""
    at = tl.arange(0, TILES)
    top = tl.load(tops + first + at, mask=at < tiles, other=float("-inf"))
    return tl.load(cuts + first + tl.argmax(top, axis=0, tie_break_left=True))
