"""From slots' parameters to the inputs of a sampling kernel. Legend: B rows, V vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from inferplane.params import SamplingParams
from inferplane.reference.noise import row_keys
from inferplane.spec import SampleInputs

from .mirror import Mirror

_BANNED = float("-inf")
_MASK64 = (1 << 64) - 1

Send = Callable[[torch.Tensor], torch.Tensor]


def make_sample_inputs(
    mirror: Mirror,
    slots: np.ndarray,
    lengths: np.ndarray,
    vocab: int,
    send: Send,
    index: torch.dtype = torch.int64,
) -> SampleInputs:
    """slots [B]; lengths [B]: tokens before the one to be sampled, which is its position.

    send: moves a host tensor to the device. index: the type of what indexes device tensors.
    """
    inputs = SampleInputs()
    if mirror.plain[slots].all():
        return inputs
    params = [mirror.params[slot] for slot in slots.tolist()]

    def column(values: list[float], dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return send(torch.tensor(values, dtype=dtype))

    if not all(p.greedy for p in params):
        inputs.greedy_B = column([p.greedy for p in params], torch.bool)
        inputs.temperature_B = column([p.temperature or 1.0 for p in params])
        seeds = np.array([(p.seed or 0) & _MASK64 for p in params], dtype=np.uint64)
        inputs.seed_B2 = send(torch.from_numpy(row_keys(seeds, lengths)))
        if any(p.top_k > 0 for p in params):
            inputs.top_k_B = column(
                [min(p.top_k, vocab) if p.top_k > 0 else vocab for p in params], torch.int32
            )
        if any(p.top_p < 1.0 for p in params):
            inputs.top_p_B = column([p.top_p for p in params])
        if any(p.min_p > 0.0 for p in params):
            inputs.min_p_B = column([p.min_p for p in params])
    _penalties(inputs, mirror, slots, lengths, params, vocab, send)
    _bias(inputs, mirror, slots, lengths, params, send, index)
    _masks(inputs, params, vocab, send)
    inputs.processors = _processors(params)
    inputs.logprobs = max((-1 if p.logprobs is None else p.logprobs) for p in params)
    return inputs


def _penalties(
    inputs: SampleInputs,
    mirror: Mirror,
    slots: np.ndarray,
    lengths: np.ndarray,
    params: list[SamplingParams],
    vocab: int,
    send: Send,
) -> None:
    triples = [(p.repetition_penalty, p.presence_penalty, p.frequency_penalty) for p in params]
    if all(triple == (1.0, 0.0, 0.0) for triple in triples):
        return
    counts = np.zeros((len(slots), vocab), dtype=np.int32)
    prompt = np.zeros((len(slots), vocab), dtype=bool)
    for row, (slot, length) in enumerate(zip(slots.tolist(), lengths.tolist(), strict=True)):
        if triples[row] == (1.0, 0.0, 0.0):
            continue
        first = int(mirror.prompt[slot])
        prompt[row, mirror.tokens[slot, :first]] = True
        counts[row] = np.bincount(mirror.tokens[slot, first:length], minlength=vocab)
    inputs.penalties_B3 = send(torch.tensor(triples, dtype=torch.float32))
    inputs.counts_BV = send(torch.from_numpy(counts))
    inputs.prompt_BV = send(torch.from_numpy(prompt))


def _bias(
    inputs: SampleInputs,
    mirror: Mirror,
    slots: np.ndarray,
    lengths: np.ndarray,
    params: list[SamplingParams],
    send: Send,
    index: torch.dtype,
) -> None:
    """Logit biases, and the ban of stop tokens while a row is below its `min_tokens`."""
    entries: list[tuple[int, int, float]] = []
    for row, p in enumerate(params):
        entries += [(row, token, value) for token, value in p.logit_bias.items()]
        if lengths[row] - mirror.prompt[slots[row]] < p.min_tokens:
            entries += [(row, token, _BANNED) for token in set(mirror.stops[slots[row]])]
    if entries:
        rows, ids, values = zip(*entries, strict=True)
        inputs.bias = (
            send(torch.tensor(rows, dtype=index)),
            send(torch.tensor(ids, dtype=index)),
            send(torch.tensor(values, dtype=torch.float32)),
        )


def _masks(inputs: SampleInputs, params: list[SamplingParams], vocab: int, send: Send) -> None:
    if not any(p.allowed_token_ids for p in params):
        return
    allowed = np.ones((len(params), -(-vocab // 32) * 32), dtype=np.uint8)
    for row, p in enumerate(params):
        if p.allowed_token_ids:
            allowed[row] = 0
            allowed[row, list(p.allowed_token_ids)] = 1
    packed = np.packbits(allowed, axis=1, bitorder="little").view("<i4")
    inputs.mask_BN = send(torch.from_numpy(packed.copy()))


def _processors(params: list[SamplingParams]) -> tuple[Any, ...]:
    """Each distinct processor once, in order of first appearance, with its rows."""
    rows: dict[int, tuple[Any, list[int]]] = {}
    for row, p in enumerate(params):
        for processor in p.processors:
            rows.setdefault(id(processor), (processor, []))[1].append(row)
    return tuple(rows.values())
