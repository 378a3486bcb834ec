"""op "sample": temperature, top-k, top-p, min-p, penalties, bias, masks and log-probabilities.

Order: penalties, bias, processors, mask, temperature, top-k, top-p, min-p, draw.
Legend: B rows, V vocabulary, N words of a mask, L reported log-probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import triton

from inferplane.spec import SampleInputs, SampleOutput, SampleRequest

from .defaults import sample as default
from .heads import MOST, heads_kernel
from .launch import launch, power_of_two
from .sample_kernels import adjust_kernel, bias_kernel, choose_kernel, report_kernel
from .tuned_files import configured

_BIASES = 128  # a program
_TILES = 4  # of a row, from which on they are worth programs of their own


def sample(
    request: SampleRequest, configuration: Mapping[str, int] | None = None
) -> Callable[[torch.Tensor, SampleInputs], SampleOutput]:
    """logits fp32 [B, V], the last axis contiguous; written where anything but an argmax is asked
    for. Tokens are int32. Nothing synchronises but what processors do themselves."""
    config = configuration or configured("sample", request, "", default(request))

    def run(logits_BV: torch.Tensor, inputs: SampleInputs) -> SampleOutput:
        raw_BV = logits_BV.clone() if inputs.logprobs >= 0 else None
        adjust(logits_BV, inputs, config)
        output = SampleOutput(tokens_B=choose(logits_BV, inputs, config))
        if raw_BV is not None:
            report(raw_BV, inputs.logprobs, output, config)
        return output

    return run


def adjust(logits_BV: torch.Tensor, inputs: SampleInputs, config: Mapping[str, int]) -> None:
    """In place. One launch, or two where a bias or a processor lies between."""
    between = inputs.bias is not None or bool(inputs.processors)
    penalties, mask = inputs.penalties_B3 is not None, inputs.mask_BN is not None
    if penalties:
        _elements(logits_BV, inputs, config, penalties=True, mask=mask and not between)
    if inputs.bias is not None:
        rows, ids, values = inputs.bias
        grid = (triton.cdiv(len(ids), _BIASES),)
        step = logits_BV.stride(0)
        launch(
            bias_kernel,
            grid,
            *(logits_BV, rows, ids, values, len(ids), step),
            BLOCK=_BIASES,
            options={"num_warps": 4},
        )
    for processor, its_rows in inputs.processors:
        processor(logits_BV, its_rows)
    if mask and (between or not penalties):
        _elements(logits_BV, inputs, config, penalties=False, mask=True)


def _elements(
    logits_BV: torch.Tensor,
    inputs: SampleInputs,
    config: Mapping[str, int],
    penalties: bool,
    mask: bool,
) -> None:
    rows, vocab = logits_BV.shape
    counts, prompt, words = inputs.counts_BV, inputs.prompt_BV, inputs.mask_BN
    launch(
        adjust_kernel,
        (rows, triton.cdiv(vocab, config["block"])),
        logits_BV,
        inputs.penalties_B3 if penalties else None,
        counts if penalties else None,
        prompt.view(torch.uint8) if penalties and prompt is not None else None,
        words if mask else None,
        logits_BV.stride(0),
        vocab,
        counts.stride(0) if penalties and counts is not None else 0,
        words.stride(0) if mask and words is not None else 0,
        PENALTIES=penalties,
        MASK=mask,
        BLOCK=config["block"],
        options={"num_warps": config["warps"]},
    )


def choose(
    logits_BV: torch.Tensor, inputs: SampleInputs, config: Mapping[str, int]
) -> torch.Tensor:
    """int32 [B]: the best token of greedy rows, a draw of the others."""
    rows, vocab = logits_BV.shape
    tokens_B = torch.empty(rows, dtype=torch.int32, device=logits_BV.device)
    greedy_B = None if inputs.greedy_B is None else inputs.greedy_B.view(torch.uint8)
    tiles, options = triton.cdiv(vocab, config["block"]), {"num_warps": config["warps"]}
    random = inputs.temperature_B is not None
    limited = random and (inputs.top_k_B is not None or inputs.top_p_B is not None)
    apart = tiles >= _TILES and (limited or inputs.min_p_B is None)
    if limited:
        apart = apart and 2 * tiles * MOST <= vocab
    heads: tuple[torch.Tensor | None, ...] = (None,) * 5
    if apart:
        make, each = logits_BV.new_empty, (rows, tiles)
        names = make((*each, MOST), dtype=torch.int32) if limited else None
        scores, masses = (make((*each, MOST)), make(each)) if limited else (None, None)
        heads = scores, names, make(each, dtype=torch.int32), make(each), masses
        launch(
            heads_kernel,
            (rows, tiles),
            *(logits_BV, greedy_B, inputs.temperature_B, inputs.seed_B2, *heads),
            *(logits_BV.stride(0), vocab, tiles),
            RANDOM=random,
            LIMITED=limited,
            MOST=MOST,
            BLOCK=config["block"],
            options=options,
        )
    launch(
        choose_kernel,
        (rows,),
        *(logits_BV, tokens_B, greedy_B, inputs.temperature_B),
        *(inputs.top_k_B, inputs.top_p_B, inputs.min_p_B, inputs.seed_B2, *heads),
        *(logits_BV.stride(0), vocab, tiles),
        RANDOM=random,
        TOP_K=inputs.top_k_B is not None,
        TOP_P=inputs.top_p_B is not None,
        MIN_P=inputs.min_p_B is not None,
        HEADS=apart,
        MOST=MOST,
        TILES=power_of_two(tiles),
        BLOCK=config["block"],
        options=options,
    )
    return tokens_B


def report(
    raw_BV: torch.Tensor, count: int, output: SampleOutput, config: Mapping[str, int]
) -> None:
    """Log-probabilities of the chosen and of the `count` best tokens, from the raw logits."""
    rows, vocab = raw_BV.shape
    output.chosen_B, sums_B = (raw_BV.new_empty(rows) for _ in range(2))
    output.rank_B = torch.empty(rows, dtype=torch.int32, device=raw_BV.device)
    launch(
        report_kernel,
        (rows,),
        *(raw_BV, output.tokens_B, output.chosen_B, output.rank_B, sums_B),
        raw_BV.stride(0),
        vocab,
        BLOCK=config["block"],
        options={"num_warps": config["warps"]},
    )
    best_BL, output.top_ids_BL = raw_BV.topk(min(count, vocab), dim=-1)
    output.top_BL = best_BL - sums_B[:, None]
