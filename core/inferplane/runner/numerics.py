"""Finds numbers that are not finite (check-numerics).

Legend: T tokens, B rows that sample, C hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from .inputs import Inputs


class FiniteTokens(list[torch.Tensor]):
    """Stands for `Step.kept`: keeps of a hidden state only which tokens are finite, bool [T]."""

    def append(self, hidden_TC: torch.Tensor) -> None:
        super().append(hidden_TC.isfinite().all(-1))


def wrong_logits(logits_BV: torch.Tensor) -> np.ndarray:
    """bool [B]: rows with a NaN or +inf, or with nothing but -inf. -inf alone is a mask."""
    best_B = logits_BV.amax(-1)  # NaN if there is one
    return np.logical_not(best_B.isfinite().cpu().numpy())


def wrong_rows(
    inputs: Inputs,
    layers: Sequence[int],
    kept: FiniteTokens,
    hidden_TC: torch.Tensor,
    sampled: Sequence[int],
    wrong_B: np.ndarray,
) -> dict[int, str]:
    """Row of the batch -> what is wrong with it, and where it was seen first.

    kept: of `layers`; empty where one kernel is the whole model. sampled: rows whose logits were
    computed; wrong_B [B]: which of those are wrong.
    """
    kept.append(hidden_TC)
    finite_LT = torch.stack(list(kept)).cpu().numpy()
    errors = {
        row: _text(int(inputs.lengths[row]) - 1, "in the logits")
        for row, wrong in zip(sampled, wrong_B.tolist(), strict=True)
        if wrong
    }
    rows = np.searchsorted(inputs.starts, np.flatnonzero(~finite_LT.all(0)), side="right") - 1
    for row in np.unique(rows).tolist():
        first, end = int(inputs.starts[row]), int(inputs.starts[row + 1])
        layer, token = np.argwhere(~finite_LT[:, first:end])[0].tolist()
        place = f"after layer {layers[layer]}" if layer < len(kept) - 1 else "after the last layer"
        errors[row] = _text(int(inputs.positions[first + token]), place)
    return errors


def _text(position: int, place: str) -> str:
    return (
        f"numbers that are not finite at position {position}, first seen {place} (check-numerics)"
    )
