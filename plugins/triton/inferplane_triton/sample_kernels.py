"""Kernels of sampling: changes of logits, the choice of a token, and log-probabilities.

Legend: B rows, V vocabulary. One program of the last two has a whole row.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .heads import best_id, left_out, mass_of
from .noise import gumbel, log
from .threshold import above, best_of, key_of, scores_at, search, value_of


@triton.jit
def adjust_kernel(
    logits, penalties, counts, prompt, words, row_step, size, count_step, word_step,
    PENALTIES: tl.constexpr, MASK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Penalties [B, 3] (repetition, presence, frequency), and a packed mask, in place."""
    row = tl.program_id(0).to(tl.int64)
    ids = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = ids < size
    place = logits + row * row_step + ids
    x = tl.load(place, mask=inside, other=0.0)
    if PENALTIES:
        repetition = tl.load(penalties + row * 3)
        presence, frequency = tl.load(penalties + row * 3 + 1), tl.load(penalties + row * 3 + 2)
        count = tl.load(counts + row * count_step + ids, mask=inside, other=0)
        seen = (count > 0) | (tl.load(prompt + row * count_step + ids, mask=inside, other=0) != 0)
        scaled = tl.where(x > 0.0, tl.div_rn(x, repetition + 0.0 * x), x * repetition)
        x = tl.where(seen, scaled, x)
        x -= frequency * count.to(tl.float32) + tl.where(count > 0, presence, 0.0)
    if MASK:
        word = tl.load(words + row * word_step + ids // 32, mask=inside, other=0)
        x = tl.where(((word >> (ids % 32)) & 1) == 1, x, float("-inf"))
    tl.store(place, x, mask=inside)


@triton.jit(do_not_specialize=["count"])
def bias_kernel(logits, rows, ids, values, count, row_step, BLOCK: tl.constexpr):
    """Adds values to single logits; what is named twice is added twice."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    row = tl.load(rows + at, mask=inside, other=0).to(tl.int64)
    token = tl.load(ids + at, mask=inside, other=0).to(tl.int64)
    value = tl.load(values + at, mask=inside, other=0.0)
    tl.atomic_add(logits + row * row_step + token, value, mask=inside)


@triton.jit
def choose_kernel(
    logits, tokens, greedy, temperature, top_k, top_p, min_p, seeds,
    scores, names, cuts, tops, masses, row_step, size, tiles,
    RANDOM: tl.constexpr, TOP_K: tl.constexpr, TOP_P: tl.constexpr, MIN_P: tl.constexpr,
    HEADS: tl.constexpr, MOST: tl.constexpr, TILES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One token a row: the best of greedy rows, and a draw of the others, by the contract's noise.

    HEADS: scores to masses are of `heads_kernel`. Rows whose head does not tell what is kept are
    searched whole.
    """
    at = tl.program_id(0)
    row, first_tile = logits + at.to(tl.int64) * row_step, at.to(tl.int64) * tiles
    ONE: tl.constexpr = HEADS and not (TOP_K or TOP_P)  # all rows
    if RANDOM and not ONE:
        if tl.load(greedy + at) != 0:
            if HEADS:
                tl.store(tokens + at, best_id(cuts, tops, first_tile, tiles, TILES))
            else:
                tl.store(tokens + at, argmax_of(row, size, BLOCK))
        else:
            heat = tl.load(temperature + at)
            k, p, gap = size, 1.0, float("-inf")
            if TOP_K:
                k = tl.minimum(tl.maximum(tl.load(top_k + at), 1), size)
            if TOP_P:
                p = tl.load(top_p + at)
            if MIN_P:
                gap = log_or_less(tl.load(min_p + at))
            first = tl.load(seeds + 2 * at).to(tl.uint32)
            second = tl.load(seeds + 2 * at + 1).to(tl.uint32)
            chosen = tl.full((), -1, tl.int32)
            if HEADS:
                chosen = head_choice(
                    chosen, scores, names, cuts, tops, masses, first_tile, tiles, size,
                    k, p, gap, first, second, TOP_P, MIN_P, MOST, TILES, BLOCK,
                )  # fmt: skip
            if chosen < 0:
                chosen = choice(
                    row, size, heat, k, p, gap, first, second, TOP_K, TOP_P, MIN_P, BLOCK
                )
            tl.store(tokens + at, chosen)
    elif HEADS:
        tl.store(tokens + at, best_id(cuts, tops, first_tile, tiles, TILES))
    else:
        tl.store(tokens + at, argmax_of(row, size, BLOCK))


@triton.jit
def choice(
    row, size, heat, k, p, gap, first, second, TOP_K: tl.constexpr, TOP_P: tl.constexpr,
    MIN_P: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The id drawn from a whole row, which keeps what lies above `threshold`, and `quota` of the
    values equal to it."""
    best = 0.0
    if TOP_P or MIN_P:
        best = best_of(row, size, heat, BLOCK)
    threshold, quota = tl.full((), 0, tl.uint32), size
    if TOP_K:  # noqa: SIM102 - known when it is compiled, the other when it runs
        if k < size:
            threshold, quota = head_of(row, size, heat, best, k, BLOCK)
    if TOP_P:  # noqa: SIM102
        if p < 1.0:
            goal = p * mass_left(row, size, heat, best, threshold, quota, BLOCK)
            threshold, quota = nucleus(row, size, heat, best, goal, threshold, quota, BLOCK)
    return draw(
        row, row, size, heat, best, threshold, quota, gap, first, second, MIN_P, False, BLOCK
    )


@triton.jit
def head_choice(
    chosen, scores, names, cuts, tops, masses, first_tile, tiles, size, k, p, gap, first, second,
    TOP_P: tl.constexpr, MIN_P: tl.constexpr, MOST: tl.constexpr, TILES: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """The id drawn from the heads of a row's tiles; `chosen` where they do not tell what is
    kept."""
    row, count, names = scores + first_tile * MOST, tiles * MOST, names + first_tile * MOST
    few, narrow = (k <= MOST) & (k < size), (k >= size) & (p < 1.0)
    if few | narrow:
        best = best_of(row, count, 1.0, BLOCK)
        threshold, quota, goal = tl.full((), 0, tl.uint32), count, 0.0
        if few:
            threshold, quota = head_of(row, count, 1.0, best, k, BLOCK)
        told = few
        if TOP_P:  # noqa: SIM102
            if p < 1.0:
                if few:
                    goal = p * mass_left(row, count, 1.0, best, threshold, quota, BLOCK)
                else:
                    goal = p * mass_of(tops, masses, first_tile, tiles, best, TILES)
                    told = above(row, count, 1.0, best, threshold, True, BLOCK) >= goal
                threshold, quota = nucleus(row, count, 1.0, best, goal, threshold, quota, BLOCK)
                told = told & (few | (left_out(cuts, first_tile, tiles, threshold, TILES) == 0))
        if told:
            at = draw(
                row, names, count, 1.0, best, threshold, quota, gap, first, second, MIN_P, True,
                BLOCK,
            )  # fmt: skip
            chosen = tl.load(names + at)
    return chosen


@triton.jit
def head_of(row, size, heat, best, k, BLOCK: tl.constexpr):
    """Top-k: (threshold, quota)."""
    nothing = tl.full((), 0, tl.uint32)
    threshold = search(row, size, heat, best, k, nothing, False, BLOCK)
    more = above(row, size, heat, best, threshold, False, BLOCK)
    return threshold, k - more.to(tl.int32)


@triton.jit
def log_or_less(x):
    """log(x), -inf for 0."""
    return tl.where(x > 0.0, log(tl.maximum(x, 1e-37)), float("-inf"))


@triton.jit
def mass_left(row, size, heat, best, threshold, quota, BLOCK: tl.constexpr):
    """Of what top-k left, relative to the best."""
    limited = quota < size
    tie = tl.where(limited, tl.exp(value_of(threshold) - best), 0.0)
    more = above(row, size, heat, best, threshold, True, BLOCK)
    return more + tl.where(limited, quota * tie, 0.0)


@triton.jit
def nucleus(row, size, heat, best, goal, threshold, quota, BLOCK: tl.constexpr):
    """Top-p of what top-k left: a token stays while the mass before it is below `goal`."""
    found = search(row, size, heat, best, goal, threshold, True, BLOCK)
    found = tl.minimum(found, key_of(best))
    before = above(row, size, heat, best, found, True, BLOCK)
    each = tl.exp(value_of(found) - best)
    fits = tl.ceil((goal - before) / each)
    fits = tl.minimum(tl.maximum(fits, 1.0), size * 1.0).to(tl.int32)
    quota = tl.where(found == threshold, tl.minimum(quota, fits), fits)
    return found, quota


@triton.jit
def draw(
    row, names, size, heat, best, threshold, quota, gap, first, second, MIN_P: tl.constexpr,
    NAMED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The place with the largest score and noise among those that are kept. NAMED: `names` has the
    ids of places."""
    chosen, highest, ties = 0, float("-inf"), 0
    for start in range(0, size, BLOCK):
        ids, inside, scores = scores_at(row, start, size, heat, BLOCK)
        keys = key_of(scores)
        tie = inside & (keys == threshold)
        place = tl.cumsum(tie.to(tl.int32), axis=0) + ties
        ties += tl.sum(tie.to(tl.int32), axis=0)
        kept = inside & ((keys > threshold) | (tie & (place <= quota)))
        if MIN_P:
            kept = kept & ((scores - best >= gap) | (scores == best))
        if NAMED:
            ids = tl.load(names + ids, mask=inside, other=0)
        noisy = scores + gumbel(ids.to(tl.uint32), first, second)
        chosen, highest = better(chosen, highest, tl.where(kept, noisy, float("-inf")), start)
    return chosen


@triton.jit
def better(chosen, highest, values, start):
    """The lowest id of the largest value so far. Tiles come in the order of ids."""
    top = tl.max(values, axis=0)
    at = start + tl.argmax(values, axis=0, tie_break_left=True)
    return tl.where(top > highest, at, chosen), tl.maximum(top, highest)


@triton.jit
def argmax_of(row, size, BLOCK: tl.constexpr):
    """The lowest id of the largest logit."""
    chosen, highest = 0, float("-inf")
    for start in range(0, size, BLOCK):
        ids = start + tl.arange(0, BLOCK)
        logits = tl.load(row + ids, mask=ids < size, other=float("-inf"))
        chosen, highest = better(chosen, highest, logits, start)
    return chosen


@triton.jit
def report_kernel(logits, tokens, chosen, ranks, sums, row_step, size, BLOCK: tl.constexpr):
    """Of raw logits: the logarithm of the sum of exp, the chosen token's log-probability, and its
    rank (1 is best)."""
    at = tl.program_id(0)
    row = logits + at.to(tl.int64) * row_step
    own = tl.load(row + tl.load(tokens + at))
    best = best_of(row, size, 1.0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    higher = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, size, BLOCK):
        ids = start + tl.arange(0, BLOCK)
        x = tl.load(row + ids, mask=ids < size, other=float("-inf"))
        total += tl.exp(x - best)
        higher += (x > own).to(tl.int32)
    log_sum = best + log(tl.sum(total, axis=0))
    tl.store(sums + at, log_sum)
    tl.store(chosen + at, own - log_sum)
    tl.store(ranks + at, tl.sum(higher, axis=0) + 1)
