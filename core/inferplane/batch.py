"""What the scheduler hands to the executor, and what comes back: integers that can be sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

TokenLogprobs = tuple[float, int, list[int], list[float]]
"""(of the token, its rank from 1, best token ids, their log-probabilities)."""


@dataclass(slots=True, kw_only=True)
class NewRow:
    """A request that takes a slot. tokens: prompt, and what was generated before a preemption."""

    slot: int
    tokens: np.ndarray
    prompt_length: int
    sampling: Any
    wants_prompt: bool
    stop_ids: tuple[int, ...] = ()


@dataclass(slots=True, kw_only=True)
class Batch:
    """One step, as integers. Rows that decode come first, then rows with more new tokens.

    Set by the scheduler:
      step: number of the step. new: slots that were taken. slots, starts, counts int32 [B]: row b
      computes tokens starts[b] to starts[b] + counts[b] of its slot. sample bool [B]: the row's
      last token yields the next one. decodes: leading rows with one new token.
      updates: (group, slots, columns, pages): changes of page tables. copies: (group, source,
      target) pages, in order, before anything is computed.
    """

    step: int
    new: list[NewRow]
    slots: np.ndarray
    starts: np.ndarray
    counts: np.ndarray
    sample: np.ndarray
    decodes: int
    updates: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]]
    copies: list[tuple[int, int, int]]

    @property
    def tokens(self) -> int:
        return int(self.counts.sum())


@dataclass(slots=True, kw_only=True)
class StepResult:
    """What a step gave. tokens int32, rows one after the other; counts int32 [B]: 0..k a row.

    logprobs: row -> (chosen, rank, top ids, top values). prompt_logprobs: row -> list of the same,
    one a prompt token of this chunk. errors: row -> why its numbers cannot be used.
    """

    tokens: np.ndarray
    counts: np.ndarray
    logprobs: dict[int, TokenLogprobs] = field(default_factory=dict)
    prompt_logprobs: dict[int, list[TokenLogprobs]] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
