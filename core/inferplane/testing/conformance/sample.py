"""What a suite proposes to ask. No torch."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from inferplane.spec import Candidate, Request, TokenRange


@dataclass(frozen=True)
class Sample:
    """A request, and the shape of the call that follows. tokens: rows of the input, M."""

    name: str
    request: Request
    shape: Any
    tokens: int = 1


def rng_of(*words: object) -> random.Random:
    """The same numbers for the same words, on every machine."""
    return random.Random("/".join(map(str, words)))


def range_of(tokens: int, candidate: Candidate) -> TokenRange:
    """The range between two of the candidate's token breaks that `tokens` is in, as the core asks
    for it."""
    first, last = 1, 1 << 30
    for edge in candidate.token_breaks:
        if tokens <= edge:
            last = edge
            break
        first = edge + 1
    return TokenRange(first, last)
