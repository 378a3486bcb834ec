"""The runner's copy of what the scheduler keeps for each slot, changed by what batches say.

A token that a launched step has sampled is on the device before it is here: `expected` is its
position, until it arrives.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inferplane.batch import Batch
from inferplane.params import SamplingParams
from inferplane.spec import KVGroup

GREEDY = SamplingParams(temperature=0.0)


class Mirror:
    """tokens int32 [slots, length]; tables[g] int32 [slots, pages]; params, prompt lengths."""

    def __init__(self, groups: Sequence[KVGroup], slots: int, max_length: int) -> None:
        self.tokens = np.zeros((slots, max_length), dtype=np.int32)
        self.tables = [
            np.full((slots, -(-max_length // g.page_size)), -1, np.int32) for g in groups
        ]
        self.params: list[SamplingParams] = [GREEDY] * slots
        self.prompt = np.zeros(slots, dtype=np.int32)
        self.wants_prompt = np.zeros(slots, dtype=bool)
        self.stops: list[tuple[int, ...]] = [()] * slots
        self.plain = np.ones(slots, dtype=bool)  # greedy, and nothing else asked for
        self.looks_back = np.zeros(slots, dtype=bool)  # sampling reads the tokens so far
        self.expected = np.full(slots, -1, dtype=np.int64)

    def apply(self, batch: Batch) -> None:
        """New rows and page-table changes of one batch."""
        for row in batch.new:
            slot = row.slot
            self.tokens[slot, : len(row.tokens)] = row.tokens
            self.params[slot] = row.sampling or GREEDY
            self.prompt[slot] = row.prompt_length
            self.stops[slot] = row.stop_ids
            self.wants_prompt[slot] = row.wants_prompt
            self.plain[slot] = is_plain(self.params[slot])
            self.looks_back[slot] = looks_back(self.params[slot])
            self.expected[slot] = -1
        for group, slots, columns, pages in batch.updates:
            self.tables[group][slots, columns] = pages

    def expect(self, slots: np.ndarray, positions: np.ndarray) -> None:
        """The tokens at these positions are being computed."""
        self.expected[slots] = positions

    def arrive(self, slots: np.ndarray, positions: np.ndarray) -> None:
        """They are here now, or will never be."""
        same = self.expected[slots] == positions
        self.expected[slots[same]] = -1


def looks_back(params: SamplingParams) -> bool:
    """Whether sampling depends on tokens that were generated before."""
    return bool(
        params.repetition_penalty != 1.0
        or params.presence_penalty
        or params.frequency_penalty
        or params.processors
    )


def is_plain(params: SamplingParams) -> bool:
    """Whether the argmax of the raw logits is all that is asked for."""
    return (
        params.greedy
        and params.logprobs is None
        and params.repetition_penalty == 1.0
        and not params.presence_penalty
        and not params.frequency_penalty
        and not params.logit_bias
        and not params.allowed_token_ids
        and not params.processors
        and not params.min_tokens
    )
