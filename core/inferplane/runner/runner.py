"""Runs batches on one device: tensors, forward, sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from inferplane.batch import Batch, StepResult, TokenLogprobs
from inferplane.spec import (
    AttentionLimits,
    AttentionMetadata,
    AttentionSlot,
    Device,
    GroupStep,
    KVGroup,
    SampleInputs,
    SampleOutput,
    Step,
)

from .inputs import Inputs, make_inputs
from .mirror import Mirror
from .sampling import make_sample_inputs

_PROMPT_ROWS = 256  # prompt positions whose logits are held at once


class Runner:
    """Built once by the executor. `run` is called for one batch after another, on one thread.

    slots: the attention slots by layer. sample_plain, sample_full: kernels for batches without,
    and with, more than an argmax.
    """

    def __init__(
        self,
        model: Any,
        device: Device,
        groups: Sequence[KVGroup],
        slots: dict[int, AttentionSlot],
        limits: AttentionLimits,
        samplers: tuple[Callable[..., SampleOutput], Callable[..., SampleOutput]],
        vocab: int,
    ) -> None:
        self.model, self.device, self.groups, self.vocab = model, device, groups, vocab
        self.slots = slots
        self.sample_plain, self.sample_full = samplers
        self.mirror = Mirror(groups, limits.max_rows, limits.max_context)
        self.pages = [group.page_size for group in groups]
        self.kernels = [slots[group.layers[0]].kernel for group in groups]
        self.target = device.torch_device
        self.buffers = [k.buffers(limits, self.target) for k in self.kernels]
        self._on_host = self.target.type == "cpu"

    def allocate(self, pages: Sequence[int]) -> None:
        """Gives every layer its cache. pages: of each group."""
        for group, count in zip(self.groups, pages, strict=True):
            for layer in group.layers:
                slot = self.slots[layer]
                slot.cache = slot.kernel.allocate(group.layout, count, self.target)

    @torch.inference_mode()
    def run(self, batch: Batch) -> StepResult:
        """Computes one batch. Raises whatever a kernel raises; the mirror is still sound then."""
        self.mirror.apply(batch)
        self._copy_pages(batch)
        inputs = make_inputs(batch, self.mirror, self.pages)
        hidden_TC = self.model.forward(self._step(batch, inputs))
        sampled = np.flatnonzero(batch.sample)
        result = StepResult(
            tokens=np.empty(0, dtype=np.int32), counts=batch.sample.astype(np.int32)
        )
        if len(sampled):
            hidden_BC = hidden_TC if len(sampled) == len(hidden_TC) else None
            if hidden_BC is None:
                hidden_BC = hidden_TC[self._move(inputs.last[sampled])]
            self._sample(batch, inputs, sampled, self.model.logits(hidden_BC), result)
        for row in np.flatnonzero(self.mirror.wants_prompt[batch.slots]).tolist():
            found = self._prompt_logprobs(batch, inputs, row, hidden_TC)
            if found:
                result.prompt_logprobs[row] = found
        return result

    def _move(self, array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        return tensor if self._on_host else tensor.to(self.target, non_blocking=True)

    def _copy_pages(self, batch: Batch) -> None:
        for group, source, target in batch.copies:
            for layer in self.groups[group].layers:
                slot = self.slots[layer]
                slot.kernel.copy_pages(slot.cache, [source], [target])

    def _step(self, batch: Batch, inputs: Inputs) -> Step:
        steps = []
        for index, kernel in enumerate(self.kernels):
            slots = self._move(inputs.slots[index])
            width = -(-int(inputs.lengths.max()) // self.pages[index])
            metadata = AttentionMetadata(
                query_starts=inputs.starts,
                context_lens=inputs.lengths,
                page_table=self.mirror.tables[index][batch.slots, :width],
                slots=inputs.slots[index],
                decodes=batch.decodes,
                device_slots=slots,
            )
            steps.append(GroupStep(kernel.plan(metadata, self.buffers[index]), slots))
        return Step(
            tokens_T=self._move(inputs.tokens),
            positions_T=self._move(inputs.positions),
            groups=steps,
        )

    def _sample(
        self,
        batch: Batch,
        inputs: Inputs,
        rows: np.ndarray,
        logits_BV: torch.Tensor,
        result: StepResult,
    ) -> None:
        slots, lengths = batch.slots[rows], inputs.lengths[rows]
        if self.mirror.plain[slots].all():
            output = self.sample_plain(logits_BV, SampleInputs())
        else:
            asked = make_sample_inputs(self.mirror, slots, lengths, self.vocab, self.target)
            output = self.sample_full(logits_BV, asked)
        tokens = output.tokens_B.to("cpu", torch.int32).numpy()
        self.mirror.tokens[slots, lengths] = tokens
        result.tokens = tokens
        for at, found in enumerate(_rows(output)):
            count = self.mirror.params[slots[at]].logprobs
            if count is not None:
                chosen, rank, ids, values = found
                result.logprobs[int(rows[at])] = (chosen, rank, ids[:count], values[:count])

    def _prompt_logprobs(
        self, batch: Batch, inputs: Inputs, row: int, hidden_TC: torch.Tensor
    ) -> list[TokenLogprobs]:
        """Of prompt tokens start+1 to end: each from the hidden state before it."""
        slot = int(batch.slots[row])
        start, first = int(batch.starts[row]), int(inputs.starts[row])
        end = min(start + int(batch.counts[row]), int(self.mirror.prompt[slot]) - 1)
        count = min(self.mirror.params[slot].prompt_logprobs or 0, self.vocab)
        found: list[TokenLogprobs] = []
        for at in range(start, end, _PROMPT_ROWS):
            stop = min(at + _PROMPT_ROWS, end)
            logits = self.model.logits(hidden_TC[first + at - start : first + stop - start])
            logprobs = logits.log_softmax(-1)
            wanted = self._move(self.mirror.tokens[slot, at + 1 : stop + 1].astype(np.int64))
            chosen = logprobs.gather(1, wanted[:, None])
            values, ids = logprobs.topk(count, dim=-1)
            output = SampleOutput(
                tokens_B=wanted,
                chosen_B=chosen[:, 0],
                rank_B=(logprobs > chosen).sum(-1) + 1,
                top_ids_BL=ids,
                top_BL=values,
            )
            found += _rows(output)
        return found


def _rows(output: SampleOutput) -> list[TokenLogprobs]:
    """Log-probabilities as Python numbers, one entry a row; none were asked for: empty."""
    if output.chosen_B is None:
        return []
    assert output.rank_B is not None
    assert output.top_ids_BL is not None and output.top_BL is not None
    return list(
        zip(
            output.chosen_B.tolist(),
            output.rank_B.tolist(),
            output.top_ids_BL.tolist(),
            output.top_BL.tolist(),
            strict=True,
        )
    )
