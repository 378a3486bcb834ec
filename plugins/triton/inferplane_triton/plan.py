"""The plan of a step's attention: integers in one device buffer, at fixed addresses.

Legend: B rows, T tokens, P page, W columns of the page table, S splits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from inferplane.spec import AttentionLimits, AttentionMetadata

from .launch import between, power_of_two

_ALIGN = 16  # integers; kernels are specialised on the alignment of what they read


@dataclass(slots=True)
class Buffers:
    """numbers: int32, [width of the table, ., starts B+1, ., lengths B, ., tiles 2 n, ., table].
    The views after it are its parts. parts, sums: scratch of splits. All addresses stay."""

    numbers: torch.Tensor
    widths: torch.Tensor
    starts: torch.Tensor
    lengths: torch.Tensor
    tiles: torch.Tensor
    table: torch.Tensor
    parts: torch.Tensor
    sums: torch.Tensor
    offsets: tuple[int, int, int, int]
    most_splits: int


@dataclass(slots=True)
class Plan:
    """decodes: rows with one token, which come first. splits: of each. tiles: of the others."""

    buffers: Buffers
    decodes: int
    splits: int
    tiles: int


def room(limits: AttentionLimits, page: int, queries: int) -> tuple[int, ...]:
    """Integers of each part: widths, starts, lengths, tiles, table."""
    tiles = -(-limits.max_tokens // queries) + limits.max_rows
    table = limits.max_rows * -(-limits.max_context // page)
    parts = 1, limits.max_rows + 1, limits.max_rows, 2 * tiles, table
    return tuple(-(-size // _ALIGN) * _ALIGN for size in parts)


def allocate(
    limits: AttentionLimits,
    page: int,
    queries: int,
    scratch: tuple[int, int],
    most_splits: int,
    device: torch.device,
) -> Buffers:
    """scratch: elements of `parts` and of `sums`."""
    sizes = room(limits, page, queries)
    ends = np.cumsum(sizes).tolist()
    numbers = torch.zeros(ends[-1], dtype=torch.int32, device=device)
    widths, starts, lengths, tiles, table = numbers.split(list(sizes))
    parts, sums = (torch.empty(n, dtype=torch.float32, device=device) for n in scratch)
    return Buffers(
        numbers=numbers,
        widths=widths,
        starts=starts,
        lengths=lengths,
        tiles=tiles,
        table=table,
        parts=parts,
        sums=sums,
        offsets=(ends[0], ends[1], ends[2], ends[3]),
        most_splits=most_splits,
    )


def fill(buffers: Buffers, metadata: AttentionMetadata, queries: int) -> int:
    """Copies a step's integers to the device, in one copy from page-locked memory, for which the
    host does not wait. Gives the number of tiles."""
    rows, width = metadata.page_table.shape
    starts, lengths, tiles, table = buffers.offsets
    host = np.zeros(table + rows * width, dtype=np.int32)
    found = tiles_of(metadata, queries)
    host[0] = width
    host[starts : starts + rows + 1] = metadata.query_starts
    host[lengths : lengths + rows] = metadata.context_lens
    host[tiles : tiles + found.size] = found.ravel()
    host[table:] = metadata.page_table.ravel()
    pinned = metadata.pin(torch.from_numpy(host))
    buffers.numbers[: len(host)].copy_(pinned, non_blocking=True)
    return len(found)


def tiles_of(metadata: AttentionMetadata, queries: int) -> np.ndarray:
    """int [n, 2]: (row, first query token) of each tile of the rows that are not decodes. The
    last tiles of rows come first, since they see the most keys."""
    new = np.diff(metadata.query_starts)[metadata.decodes :]
    counts = -(-new // queries)
    rows = np.repeat(np.arange(len(new)), counts)
    first = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.stack([rows + metadata.decodes, first * queries], axis=1)[::-1]


def splits_of(rows: int, kv_heads: int, programs: int, most: int) -> int:
    """A power of two, by the number of rows alone: a captured step has the same at every replay."""
    wanted = between(1, -(-programs // max(1, rows * kv_heads)), most)
    return power_of_two(wanted)


def scratch_rows(max_rows: int, kv_heads: int, programs: int, most: int) -> int:
    """The largest rows * splits for up to `max_rows` rows."""
    splits = ((n, splits_of(n, kv_heads, programs, most)) for n in range(1, max_rows + 1))
    return max((rows * count for rows, count in splits if count > 1), default=0)
