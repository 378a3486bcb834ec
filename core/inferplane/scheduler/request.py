"""A request as the scheduler knows it, and what it hands to the executor."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np


TokenLogprobs = tuple[float, int, list[int], list[float]]
"""(of the token, its rank from 1, best token ids, their log-probabilities)."""


class Finish(Enum):
    """Why a request ended; the value is the OpenAI API's word."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"


@dataclass(slots=True, kw_only=True)
class Request:
    """Set by the caller: all but the last group. Set by the scheduler: the last group.

    tokens: int32 prompt. max_tokens: to generate. stop_ids: token ids that end the text.
    priority: the lower runs first. namespace: prefixes are shared within one only.
    sampling: opaque to the scheduler; the runner reads it. wants_prompt: the runner needs every
    prompt token computed (prompt log-probabilities), so nothing is taken from the cache.
    """

    id: str
    tokens: np.ndarray
    max_tokens: int
    stop_ids: tuple[int, ...] = ()
    min_tokens: int = 0
    priority: int = 0
    namespace: str = ""
    sampling: Any = None
    wants_prompt: bool = False
    arrival: int = 0
    # set by the scheduler
    prompt_length: int = 0
    slot: int = -1
    cached: int = -1  # prompt tokens that were not computed at the first admission
    preemptions: int = 0
    prompt_reported: int = 0  # prompt tokens whose log-probabilities were given out

    def __post_init__(self) -> None:
        self.tokens = np.ascontiguousarray(self.tokens, dtype=np.int32)
        self.prompt_length = len(self.tokens)


@dataclass(slots=True, kw_only=True)
class NewRow:
    """A request that takes a slot. tokens: prompt, and what was generated before a preemption."""

    slot: int
    tokens: np.ndarray
    prompt_length: int
    sampling: Any
    wants_prompt: bool


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
    one a prompt token of this chunk.
    """

    tokens: np.ndarray
    counts: np.ndarray
    logprobs: dict[int, TokenLogprobs] = field(default_factory=dict)
    prompt_logprobs: dict[int, list[TokenLogprobs]] = field(
        default_factory=dict
    )


@dataclass(slots=True)
class Output:
    """What one step gave to one request.

    finish: None while it goes on. cached: prompt tokens that came from the cache, with the first
    output. error: for a person, when finish is ERROR.
    """

    id: str
    tokens: list[int]
    finish: Finish | None = None
    cached: int = 0
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)
    error: str = ""
