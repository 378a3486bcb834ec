"""Sampling on the CPU: with a top-k in every drawn row, only the k best are looked at.

Noise is a function of the token id, so a draw among the k best is the draw of the reference.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from inferplane.reference.noise import gumbel
from inferplane.reference.sample import adjust, choose, report
from inferplane.spec import SampleInputs, SampleOutput, SampleRequest

_MOST = 1024


def sample(request: SampleRequest) -> Callable[[torch.Tensor, SampleInputs], SampleOutput]:
    def run(logits_BV: torch.Tensor, inputs: SampleInputs) -> SampleOutput:
        raw_BV = logits_BV.clone() if inputs.logprobs >= 0 else None
        adjust(logits_BV, inputs)
        tokens_B = _among_best(logits_BV, inputs)
        output = SampleOutput(tokens_B=choose(logits_BV, inputs) if tokens_B is None else tokens_B)
        if raw_BV is not None:
            report(raw_BV, inputs.logprobs, output)
        return output

    return run


def _among_best(logits_BV: torch.Tensor, inputs: SampleInputs) -> torch.Tensor | None:
    """The tokens, or None where a row has no top-k or a tie crosses its edge."""
    if inputs.temperature_B is None or inputs.top_k_B is None:
        return None
    assert inputs.seed_B2 is not None and inputs.greedy_B is not None
    limit_B = torch.where(inputs.greedy_B, 1, inputs.top_k_B)
    most = int(limit_B.max())
    if most > _MOST or most >= logits_BV.shape[1]:
        return None
    best_BN, ids_BN = logits_BV.topk(most + 1, dim=-1)
    at_B1 = limit_B[:, None].long()
    if bool((best_BN.gather(1, at_B1) == best_BN.gather(1, at_B1 - 1)).any()):
        return None
    ids_BN, order = ids_BN.sort(dim=-1)
    best_BN = best_BN.gather(1, order)
    best_BN, order = best_BN.sort(dim=-1, descending=True, stable=True)
    ids_BN = ids_BN.gather(1, order)
    scores_BN = _keep(best_BN / inputs.temperature_B[:, None], limit_B, inputs)
    drawn_B1 = (scores_BN + gumbel(inputs.seed_B2, ids_BN)).argmax(-1, keepdim=True)
    drawn_B = ids_BN.gather(1, drawn_B1)[:, 0]
    return torch.where(inputs.greedy_B, ids_BN[:, 0], drawn_B)


def _keep(scores_BN: torch.Tensor, limit_B: torch.Tensor, inputs: SampleInputs) -> torch.Tensor:
    """As `reference.sample.keep`, for rows that are sorted already."""
    out = torch.arange(scores_BN.shape[1]) >= limit_B[:, None]
    scores_BN = scores_BN.masked_fill(out, float("-inf"))
    if inputs.top_p_B is not None:
        probs_BN = scores_BN.softmax(-1)
        out |= probs_BN.cumsum(-1) - probs_BN >= inputs.top_p_B[:, None]
    if inputs.min_p_B is not None:
        out |= scores_BN - scores_BN[:, :1] < inputs.min_p_B[:, None].log()
    out[:, 0] = False
    return scores_BN.masked_fill(out, float("-inf"))
