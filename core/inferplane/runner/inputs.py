"""The tensors of a step. Legend: T tokens, B rows, P page."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inferplane.batch import Batch

from .mirror import Mirror


@dataclass(slots=True)
class Inputs:
    """Host arrays of one step: tokens, positions [T]; starts int32 [B+1]; lengths int32 [B];
    slots, [T] a group: where each token's keys and values go; last [B]. Those without a type are
    int64, or int32 for devices without the capability `int64_index`. rows int32 [T]: the slot that
    each token belongs to."""

    tokens: np.ndarray
    positions: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    slots: list[np.ndarray]
    last: np.ndarray
    rows: np.ndarray


def make_inputs(
    batch: Batch, mirror: Mirror, pages: list[int], index: type[np.signedinteger] = np.int64
) -> Inputs:
    """pages: tokens a page, a group each. index: the type of what indexes device tensors."""
    counts, slots = batch.counts, batch.slots
    ends = np.cumsum(counts, dtype=np.int32)
    if batch.decodes == len(slots):
        rows, positions = slots, batch.starts.astype(index)
    else:
        rows = np.repeat(slots, counts)
        offsets = np.arange(ends[-1]) - np.repeat(ends - counts, counts)
        positions = (np.repeat(batch.starts, counts) + offsets).astype(index)
    where = []
    for table, page in zip(mirror.tables, pages, strict=True):
        column, offset = np.divmod(positions, page)
        where.append(table[rows, column].astype(index) * page + offset)
    return Inputs(
        tokens=mirror.tokens[rows, positions].astype(index),
        positions=positions,
        starts=np.concatenate(([0], ends)).astype(np.int32),
        lengths=batch.starts + counts,
        slots=where,
        last=ends.astype(index) - 1,
        rows=rows,
    )


def pad(inputs: Inputs, size: int) -> Inputs:
    """A decode step with `size` rows: what is added has token 0, context 0 and slot -1."""
    extra = size - len(inputs.lengths)

    def longer(array: np.ndarray, value: int = 0) -> np.ndarray:
        return np.concatenate([array, np.full(extra, value, dtype=array.dtype)])

    return Inputs(
        tokens=longer(inputs.tokens),
        positions=longer(inputs.positions),
        starts=np.arange(size + 1, dtype=np.int32),
        lengths=longer(inputs.lengths),
        slots=[longer(slots, -1) for slots in inputs.slots],
        last=inputs.last,
        rows=longer(inputs.rows),
    )
