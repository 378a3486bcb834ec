"""Sampling by the definition.

Order: penalties, bias, processors, mask, temperature, top-k, top-p, min-p, draw. Legend: B rows,
V vocabulary, L reported log-probabilities.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from inferplane.spec import SampleInputs, SampleOutput, SampleRequest
from inferplane.spec.torch_types import index_dtype

from .noise import gumbel


def sample(request: SampleRequest) -> Callable[[torch.Tensor, SampleInputs], SampleOutput]:
    index = index_dtype(request.device)

    def run(logits_BV: torch.Tensor, inputs: SampleInputs) -> SampleOutput:
        output = SampleOutput(tokens_B=torch.empty(0))
        raw_BV = logits_BV.clone() if inputs.logprobs >= 0 else None
        adjust(logits_BV, inputs)
        output.tokens_B = choose(logits_BV, inputs, index)
        if raw_BV is not None:
            report(raw_BV, inputs.logprobs, output)
        return output

    return run


def adjust(logits_BV: torch.Tensor, inputs: SampleInputs) -> None:
    """Penalties, bias, processors and mask, in place."""
    if inputs.penalties_B3 is not None:
        assert inputs.counts_BV is not None and inputs.prompt_BV is not None
        repetition, presence, frequency = inputs.penalties_B3.unsqueeze(-1).unbind(1)
        made_BV = inputs.counts_BV > 0
        seen_BV = made_BV | inputs.prompt_BV
        scaled = torch.where(logits_BV > 0, logits_BV / repetition, logits_BV * repetition)
        logits_BV.copy_(torch.where(seen_BV, scaled, logits_BV))
        logits_BV -= frequency * inputs.counts_BV + presence * made_BV
    if inputs.bias is not None:
        rows, ids, values = inputs.bias
        logits_BV.index_put_((rows, ids), values, accumulate=True)
    for processor, rows_list in inputs.processors:
        processor(logits_BV, rows_list)
    if inputs.mask_BN is not None:
        logits_BV.masked_fill_(~unpack(inputs.mask_BN, logits_BV.shape[1]), float("-inf"))


def unpack(mask_BN: torch.Tensor, vocab: int) -> torch.Tensor:
    """Packed int32 words to bool [B, V]."""
    bits = torch.arange(32, device=mask_BN.device, dtype=torch.int32)
    return ((mask_BN.unsqueeze(-1) >> bits) & 1).flatten(1)[:, :vocab].bool()


def choose(
    logits_BV: torch.Tensor, inputs: SampleInputs, index: torch.dtype = torch.int64
) -> torch.Tensor:
    """One token a row: the best for greedy rows, a draw for the others.

    index: the type of what indexes tensors of the device, here and below.
    """
    best_B = logits_BV.argmax(-1).to(index)
    if inputs.temperature_B is None:
        return best_B
    assert inputs.seed_B2 is not None and inputs.greedy_B is not None
    scores_BV = keep(logits_BV / inputs.temperature_B[:, None], inputs, index)
    ids_V = torch.arange(logits_BV.shape[1], device=logits_BV.device)
    drawn_B = (scores_BV + gumbel(inputs.seed_B2, ids_V)).argmax(-1).to(index)
    return torch.where(inputs.greedy_B, best_B, drawn_B)


def keep(
    logits_BV: torch.Tensor, inputs: SampleInputs, index: torch.dtype = torch.int64
) -> torch.Tensor:
    """-inf for what top-k, top-p and min-p leave out. The best token always stays."""
    if inputs.top_k_B is None and inputs.top_p_B is None and inputs.min_p_B is None:
        return logits_BV
    sorted_BV, order_BV = logits_BV.sort(dim=-1, descending=True, stable=True)
    rank_V = torch.arange(logits_BV.shape[1], device=logits_BV.device)
    kept_BV = torch.ones_like(sorted_BV, dtype=torch.bool)
    if inputs.top_k_B is not None:
        kept_BV &= rank_V < inputs.top_k_B[:, None]
    if inputs.top_p_B is not None:
        probs_BV = sorted_BV.masked_fill(~kept_BV, float("-inf")).softmax(-1)
        before_BV = probs_BV.cumsum(-1) - probs_BV
        kept_BV &= before_BV < inputs.top_p_B[:, None]
    if inputs.min_p_B is not None:
        gap_BV = sorted_BV - sorted_BV[:, :1]
        kept_BV &= gap_BV >= inputs.min_p_B[:, None].log()
    kept_BV[:, 0] = True
    keep_BV = torch.zeros_like(kept_BV).scatter(1, order_BV.to(index), kept_BV)
    return logits_BV.masked_fill(~keep_BV, float("-inf"))


def report(raw_BV: torch.Tensor, count: int, output: SampleOutput) -> None:
    """Log-probabilities of the chosen and of the `count` best tokens, from the raw logits."""
    logprobs_BV = raw_BV.log_softmax(-1)
    chosen_B1 = logprobs_BV.gather(1, output.tokens_B[:, None])
    output.chosen_B = chosen_B1[:, 0]
    output.rank_B = (logprobs_BV > chosen_B1).sum(-1).to(torch.int32) + 1
    output.top_BL, output.top_ids_BL = logprobs_BV.topk(min(count, raw_BV.shape[1]), dim=-1)
