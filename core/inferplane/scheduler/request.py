"""A request as the scheduler knows it, and what a step gave to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from inferplane.batch import TokenLogprobs

_MOST_TRIES, _MOST_ALONE = 64, 3  # steps out of memory without a new token between them


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
    tries: int = 0  # steps out of memory since its last new token
    tries_alone: int = 0  # those that had this request and one token only
    tried_length: int = 0  # tokens that it had then

    def __post_init__(self) -> None:
        self.tokens = np.ascontiguousarray(self.tokens, dtype=np.int32)
        self.prompt_length = len(self.tokens)

    def hopeless(self, length: int, alone: bool) -> int:
        """Notes a step out of memory; 0, or how many tries there were when that is enough."""
        if length > self.tried_length:
            self.tries = self.tries_alone = 0
        self.tried_length = length
        self.tries += 1
        self.tries_alone += alone
        over = self.tries >= _MOST_TRIES or self.tries_alone >= _MOST_ALONE
        return self.tries if over else 0


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
