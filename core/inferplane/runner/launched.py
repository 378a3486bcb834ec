"""A batch that was launched: what it yields is read when it is asked for."""

from __future__ import annotations

import numpy as np
import torch

from inferplane.batch import Batch, StepResult, TokenLogprobs
from inferplane.spec import SampleOutput

from .mirror import Mirror
from .transfers import Transfers


class Launched:
    """rows: of the batch, which sample; slots, lengths [rows]: where their tokens go.

    `result` waits, then writes the tokens into the mirror. Launched batches are read in order.
    """

    def __init__(
        self,
        batch: Batch,
        mirror: Mirror,
        rows: np.ndarray,
        lengths: np.ndarray,
        output: SampleOutput | None,
        transfers: Transfers,
    ) -> None:
        self.mirror, self.rows = mirror, rows
        self.slots, self.lengths = batch.slots[rows], lengths[rows]
        self.logprobs = [mirror.params[slot].logprobs for slot in self.slots.tolist()]
        self.partial = StepResult(
            tokens=np.empty(0, dtype=np.int32), counts=batch.sample.astype(np.int32)
        )
        self._result: StepResult | None = None
        self._error: Exception | None = None
        self._reading = transfers.read(_tensors(output))
        if output is not None:
            mirror.expect(self.slots, self.lengths)

    @property
    def read(self) -> bool:
        """Whether `result` was called."""
        return self._result is not None or self._error is not None

    def result(self) -> StepResult:
        """Raises what a kernel raised, every time."""
        if self._error is None and self._result is None:
            try:
                self._result = self._read()
            except Exception as error:
                self._error = error
            finally:
                self.mirror.arrive(self.slots, self.lengths)
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def _read(self) -> StepResult:
        tokens, *rest = self._reading.get()
        result = self.partial
        if tokens is not None:
            result.tokens = tokens.numpy()
            wanted = self.mirror.expected[self.slots] == self.lengths  # the slot is still theirs
            at = self.slots[wanted], self.lengths[wanted]
            self.mirror.tokens[at] = result.tokens[wanted]
            for row, found in enumerate(logprob_rows(rest)):
                count = self.logprobs[row]
                if count is not None:
                    chosen, rank, ids, values = found
                    result.logprobs[int(self.rows[row])] = chosen, rank, ids[:count], values[:count]
        return result


def _tensors(output: SampleOutput | None) -> list[torch.Tensor | None]:
    if output is None:
        return [None]
    rest = (output.chosen_B, output.rank_B, output.top_ids_BL, output.top_BL)
    return [output.tokens_B.to(torch.int32), *rest]


def logprob_rows(tensors: list[torch.Tensor | None]) -> list[TokenLogprobs]:
    """chosen, rank, top ids and top values as Python numbers, one entry a row; empty where there
    are none."""
    found = [tensor.tolist() for tensor in tensors if tensor is not None]
    return list(zip(*found, strict=True)) if len(found) == 4 else []
