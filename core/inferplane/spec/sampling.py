"""What a sampling kernel receives and returns.

Legend: B rows that sample, V vocabulary, N = ceil(V / 32).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch


class LogitsProcessor(Protocol):
    """Changes logits in place, after penalties and bias and before temperature."""

    def __call__(self, logits_BV: torch.Tensor, rows: list[int]) -> None:
        """rows: rows of this batch whose request asked for the processor."""


@dataclass(slots=True, kw_only=True)
class SampleInputs:
    """Per-row parameters, tensors on the device. None means that no row uses it.

    Set by the runner:
      greedy_B bool. temperature_B fp32, 1.0 for greedy rows. top_k_B int32, V for none.
      top_p_B, min_p_B fp32. seed_B2 int64: two 32-bit keys of (seed, position), see
      `inferplane.reference.noise`. counts_BV int32: times a token was generated;
      prompt_BV bool: token is in the prompt; penalties_B3 fp32: repetition, presence, frequency.
      bias: rows and ids int64 (int32 on devices without
      `int64_index`), values fp32, to add. mask_BN int32: bit v%32 of word v//32 allows
      token v. processors: in order, with the rows that they act on.
      logprobs: how many best tokens to report besides the chosen one; -1 for none.
    """

    greedy_B: torch.Tensor | None = None
    temperature_B: torch.Tensor | None = None
    top_k_B: torch.Tensor | None = None
    top_p_B: torch.Tensor | None = None
    min_p_B: torch.Tensor | None = None
    seed_B2: torch.Tensor | None = None
    counts_BV: torch.Tensor | None = None
    prompt_BV: torch.Tensor | None = None
    penalties_B3: torch.Tensor | None = None
    bias: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
    mask_BN: torch.Tensor | None = None
    processors: tuple[tuple[LogitsProcessor, list[int]], ...] = ()
    logprobs: int = -1

    def features(self) -> frozenset[str]:
        """The semantics of this batch, with the names that `SampleRequest.extra` uses."""
        found = {
            "random": self.temperature_B is not None,
            "top_k": self.top_k_B is not None,
            "top_p": self.top_p_B is not None,
            "min_p": self.min_p_B is not None,
            "penalties": self.penalties_B3 is not None,
            "bias": self.bias is not None,
            "mask": self.mask_BN is not None,
            "processors": bool(self.processors),
            "logprobs": self.logprobs >= 0,
        }
        return frozenset(name for name, used in found.items() if used)


@dataclass(slots=True, kw_only=True)
class SampleOutput:
    """tokens_B int64 or int32. With logprobs, of the raw logits (before penalties and temperature):
    chosen_B fp32 and rank_B int32 (1 is best) of the chosen token; top_ids_BL and top_BL.
    """

    tokens_B: torch.Tensor
    chosen_B: torch.Tensor | None = None
    rank_B: torch.Tensor | None = None
    top_ids_BL: torch.Tensor | None = None
    top_BL: torch.Tensor | None = None
