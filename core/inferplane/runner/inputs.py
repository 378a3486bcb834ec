"""The tensors of a step. Legend: T tokens, B rows, P page."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inferplane.batch import Batch

from .mirror import Mirror


@dataclass(slots=True)
class Inputs:
    """Host arrays of one step: tokens, positions int64 [T]; starts int32 [B+1]; lengths int32 [B];
    slots, one int64 [T] a group: where each token's keys and values go; last int64 [B]."""

    tokens: np.ndarray
    positions: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    slots: list[np.ndarray]
    last: np.ndarray


def make_inputs(batch: Batch, mirror: Mirror, pages: list[int]) -> Inputs:
    """pages: tokens a page, a group each."""
    counts, slots = batch.counts, batch.slots
    ends = np.cumsum(counts, dtype=np.int32)
    if batch.decodes == len(slots):
        rows, positions = slots, batch.starts.astype(np.int64)
    else:
        rows = np.repeat(slots, counts)
        offsets = np.arange(ends[-1]) - np.repeat(ends - counts, counts)
        positions = (np.repeat(batch.starts, counts) + offsets).astype(np.int64)
    where = []
    for table, page in zip(mirror.tables, pages, strict=True):
        column, offset = np.divmod(positions, page)
        where.append(table[rows, column].astype(np.int64) * page + offset)
    return Inputs(
        tokens=mirror.tokens[rows, positions].astype(np.int64),
        positions=positions,
        starts=np.concatenate(([0], ends)).astype(np.int32),
        lengths=batch.starts + counts,
        slots=where,
        last=ends.astype(np.int64) - 1,
    )
