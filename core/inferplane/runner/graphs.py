"""Decode steps captured as graphs, one for each padded number of rows, when first wanted.

A graph reads its inputs at fixed addresses: tokens, positions and slots here, page tables in the
attention kernels' own buffers (`AttentionKernel.plan`). Rows that pad a step have slot -1 and
context 0. All graphs write their logits to the same tensor.

Legend: n rows of a graph, V vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from inferplane.spec import GraphBackend, GraphHandle, Step

log = logging.getLogger("inferplane.runner")

Compute = Callable[[Step], torch.Tensor]
"""Logits [n, V] of a step in which every row has one token."""


def buckets(most: int) -> list[int]:
    """Numbers of rows that are captured: 1, 2, 4, then steps of 8, 16 from 64 on, 32 from 256."""
    sizes = [1, 2, 4, *range(8, 64, 8), *range(64, 256, 16), *range(256, most + 32, 32)]
    return [size for size in sizes if size < most] + [most]


@dataclass(slots=True)
class Captured:
    """One graph, and the step whose tensors it reads."""

    step: Step
    handle: GraphHandle


class DecodeGraphs:
    """Captures and replays. failed: why nothing is captured any more, "" while all is well."""

    def __init__(
        self, backend: GraphBackend, compute: Compute, sizes: Sequence[int], device: torch.device
    ) -> None:
        self.backend, self.compute, self.sizes, self.device = backend, compute, sizes, device
        self.failed = ""
        self.replays = 0
        self._captured: dict[int, Captured] = {}
        self._logits: torch.Tensor | None = None

    def size(self, rows: int) -> int:
        """Rows of the graph for so many rows, 0 where there is none."""
        if self.failed:
            return 0
        at = int(np.searchsorted(self.sizes, rows))
        return self.sizes[at] if at < len(self.sizes) else 0

    def step(self, size: int) -> Step | None:
        """The step of a graph that was captured; its tensors are what to fill."""
        captured = self._captured.get(size)
        return captured.step if captured else None

    def replay(self, size: int) -> torch.Tensor:
        """Logits [n, V], overwritten by the next replay."""
        assert self._logits is not None
        self._captured[size].handle.replay()
        self.replays += 1
        return self._logits[:size]

    def capture(self, step: Step) -> torch.Tensor:
        """Computes a step, and captures it for the next time. Gives its logits.

        The first run is not captured: kernels are compiled and tuned in it.
        """
        size = len(step.tokens_T)
        logits = self.compute(step)
        if self._logits is None:
            self._logits = logits.new_empty((self.sizes[-1], logits.shape[1]))
        room = self._logits[:size]

        def run() -> None:
            room.copy_(self.compute(step))

        try:
            self._captured[size] = Captured(step, self.backend.capture(run))
        except RuntimeError as error:  # also when memory ran out: steps go on without graphs
            self.failed = f"{type(error).__name__}: {error}"
            log.warning("graphs are off: a step of %d rows was not captured: %s", size, error)
        return logits
