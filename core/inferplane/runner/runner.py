"""Runs batches on one device: tensors, forward, sample."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from inferplane.activity import Activity, Board
from inferplane.batch import Batch, StepResult, TokenLogprobs
from inferplane.spec import (
    AttentionLimits,
    AttentionMetadata,
    AttentionSlot,
    Device,
    GraphBackend,
    GroupStep,
    KVGroup,
    SampleInputs,
    SampleOutput,
    Step,
)

from .graphs import DecodeGraphs, buckets
from .inputs import Inputs, make_inputs, pad
from .launched import Launched, logprob_rows
from .mirror import Mirror
from .numerics import FiniteTokens, wrong_logits, wrong_rows
from .sampling import make_sample_inputs
from .transfers import Transfers

_PROMPT_ROWS = 256  # prompt positions whose logits are held at once


class Runner:
    """Built once by the executor. `run` is called for one batch after another, on one thread.

    slots: the attention slots by layer. sample_plain, sample_full: kernels for batches without,
    and with, more than an argmax. activity: is told what part of a step runs. check_numerics: rows
    with numbers that are not finite are told in `StepResult.errors`. overlap: the next batch may
    be launched before the last one is read, where the device has events. graphs: captures decode
    steps; None for none.
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
        activity: Activity | None = None,
        check_numerics: bool = False,
        overlap: bool = False,
        graphs: GraphBackend | None = None,
    ) -> None:
        self.model, self.device, self.groups, self.vocab = model, device, groups, vocab
        self.activity = activity or Activity(Board(1))
        self.check_numerics = check_numerics
        layers = [layer for group in groups for layer in group.layers]
        self._watched = frozenset(layers) if check_numerics else frozenset[int]()
        self.slots = slots
        self.sample_plain, self.sample_full = samplers
        self.mirror = Mirror(groups, limits.max_rows, limits.max_context)
        self.pages = [group.page_size for group in groups]
        self.kernels = [slots[group.layers[0]].kernel for group in groups]
        self.target = device.torch_device
        self.buffers = [k.buffers(limits, self.target) for k in self.kernels]
        self.transfers = Transfers(device, overlap)
        self._index = np.int64 if self.transfers.index == torch.int64 else np.int32
        self._launched: deque[Launched] = deque()  # those that may not have been read yet
        self._newest_S = torch.zeros(  # each slot's last token, as soon as it is computed
            limits.max_rows if self.transfers.overlaps else 0,
            dtype=self.transfers.index,
            device=self.target,
        )
        self.graphs: DecodeGraphs | None = None
        if graphs is not None and not check_numerics:
            self.graphs = DecodeGraphs(graphs, self._logits, buckets(limits.max_rows), self.target)

    def allocate(self, pages: Sequence[int]) -> None:
        """Gives every layer its cache. pages: of each group."""
        for group, count in zip(self.groups, pages, strict=True):
            assert count * group.page_size <= np.iinfo(self._index).max, "slots need a wider index"
            for layer in group.layers:
                slot = self.slots[layer]
                slot.cache = slot.kernel.allocate(group.layout, count, self.target)

    def run(self, batch: Batch) -> StepResult:
        """Computes one batch, and waits for it."""
        return self.launch(batch).result()

    @torch.inference_mode()
    def launch(self, batch: Batch) -> Launched:
        """Begins to compute one batch; where the device works behind the host, that is all.
        Raises whatever a kernel raises; the mirror is still sound then."""
        self.mirror.apply(batch)
        self._copy_pages(batch)
        self._catch_up(batch)
        inputs = make_inputs(batch, self.mirror, self.pages, self._index)
        sampled = np.flatnonzero(batch.sample)
        size = self._graph_size(batch, sampled)
        hidden_TC: torch.Tensor | None = None
        logits_BV: torch.Tensor | None
        errors: dict[int, str] = {}
        if size:
            logits_BV = self._replay(batch, inputs, size)
        else:
            hidden_TC, logits_BV, errors = self._forward(batch, inputs, sampled)
        self.activity.enter("sample")
        output = None
        if logits_BV is not None:
            output = self._sample(batch.slots[sampled], inputs.lengths[sampled], logits_BV)
        launched = Launched(batch, self.mirror, sampled, inputs.lengths, output, self.transfers)
        launched.partial.errors = errors
        for row in np.flatnonzero(self.mirror.wants_prompt[batch.slots]).tolist():
            assert hidden_TC is not None
            found = self._prompt_logprobs(batch, inputs, row, hidden_TC)
            if found:
                launched.partial.prompt_logprobs[row] = found
        if self.transfers.overlaps:
            self._launched.append(launched)
        return launched

    def _catch_up(self, batch: Batch) -> None:
        """Reads earlier batches first where sampling depends on the tokens that they yield."""
        while self._launched and self._launched[0].read:
            self._launched.popleft()
        if self.mirror.looks_back[batch.slots].any():
            self.activity.enter("wait for the step before")
            while self._launched:
                self._launched.popleft().result()

    def _forward(
        self, batch: Batch, inputs: Inputs, sampled: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor | None, dict[int, str]]:
        """(hidden states, logits of the rows that sample, what is wrong with rows)."""
        self.activity.current = step = self._step(batch, inputs)
        self.activity.enter("forward")
        hidden_TC = self.model.forward(step)
        logits_BV = None
        if len(sampled):
            hidden_BC = hidden_TC
            if len(sampled) != len(hidden_TC):
                hidden_BC = hidden_TC[self.transfers.send(inputs.last[sampled])]
            logits_BV = self.model.logits(hidden_BC)
        errors = {}
        if self.check_numerics:
            self.activity.enter("check numerics")
            errors = self._check(inputs, step, hidden_TC, sampled, logits_BV)
        return hidden_TC, logits_BV, errors

    def _logits(self, step: Step) -> torch.Tensor:
        logits: torch.Tensor = self.model.logits(self.model.forward(step))
        return logits

    def _graph_size(self, batch: Batch, sampled: np.ndarray) -> int:
        """Rows of the graph that computes this batch, 0 for none."""
        rows = len(batch.slots)
        if self.graphs is None or batch.decodes < rows or len(sampled) < rows:
            return 0
        return 0 if self.mirror.wants_prompt[batch.slots].any() else self.graphs.size(rows)

    def _replay(self, batch: Batch, inputs: Inputs, size: int) -> torch.Tensor:
        """Logits of a decode batch, through a graph of `size` rows."""
        assert self.graphs is not None
        rows = len(batch.slots)
        padded = pad(inputs, size)
        step = self.graphs.step(size)
        if step is None:
            self.activity.current = step = self._step(batch, padded, padded=True)
            self.activity.enter("capture")
            return self.graphs.capture(step)[:rows]
        step.tokens_T.copy_(self._tokens(padded))
        step.positions_T.copy_(self.transfers.send(padded.positions))
        for index, group in enumerate(step.groups):
            group.slots.copy_(self.transfers.send(padded.slots[index]))
            self._plan(batch, padded, index, group.slots, padded=True)
        self.activity.enter("replay")
        return self.graphs.replay(size)[:rows]

    def _check(
        self,
        inputs: Inputs,
        step: Step,
        hidden_TC: torch.Tensor,
        sampled: np.ndarray,
        logits_BV: torch.Tensor | None,
    ) -> dict[int, str]:
        """The rows that are wrong; their logits become 0, so that sampling meets no NaN."""
        assert isinstance(step.kept, FiniteTokens)
        wrong_B = np.zeros(0, dtype=bool)
        if logits_BV is not None:
            wrong_B = wrong_logits(logits_BV)
            logits_BV[self.transfers.send(np.flatnonzero(wrong_B).astype(self._index))] = 0.0
        layers = sorted(self._watched)
        return wrong_rows(inputs, layers, step.kept, hidden_TC, sampled.tolist(), wrong_B)

    def _copy_pages(self, batch: Batch) -> None:
        for group, source, target in batch.copies:
            for layer in self.groups[group].layers:
                slot = self.slots[layer]
                slot.kernel.copy_pages(slot.cache, [source], [target])

    def _step(self, batch: Batch, inputs: Inputs, padded: bool = False) -> Step:
        groups = []
        for index in range(len(self.kernels)):
            slots = self.transfers.send(inputs.slots[index])
            groups.append(GroupStep(self._plan(batch, inputs, index, slots, padded), slots))
        return Step(
            tokens_T=self._tokens(inputs),
            positions_T=self.transfers.send(inputs.positions),
            groups=groups,
            keep_layers=self._watched,
            kept=FiniteTokens() if self.check_numerics else [],
        )

    def _plan(
        self, batch: Batch, inputs: Inputs, index: int, slots: torch.Tensor, padded: bool
    ) -> Any:
        """The attention plan of one group. slots: on the device."""
        width = -(-int(inputs.lengths.max()) // self.pages[index])
        table = self.mirror.tables[index][batch.slots, :width]
        extra = len(inputs.lengths) - len(table)
        if extra:
            table = np.concatenate([table, np.zeros((extra, width), dtype=table.dtype)])
        metadata = AttentionMetadata(
            query_starts=inputs.starts,
            context_lens=inputs.lengths,
            page_table=table,
            slots=inputs.slots[index],
            decodes=batch.decodes + extra,
            device_slots=slots,
            padded=padded,
            pin=self.device.pin,
        )
        return self.kernels[index].plan(metadata, self.buffers[index])

    def _tokens(self, inputs: Inputs) -> torch.Tensor:
        """Token ids [T]; those that only the device knows yet come from there."""
        waiting_T = self.mirror.expected[inputs.rows] == inputs.positions
        if not waiting_T.any():
            return self.transfers.send(inputs.tokens)
        rows = self.transfers.send(inputs.rows.astype(self._index))
        newest_T = self._newest_S.index_select(0, rows)
        if waiting_T.all():
            return newest_T
        known_T = self.transfers.send(inputs.tokens)
        return torch.where(self.transfers.send(waiting_T), newest_T, known_T)

    def _sample(
        self, slots: np.ndarray, lengths: np.ndarray, logits_BV: torch.Tensor
    ) -> SampleOutput:
        if self.mirror.plain[slots].all():
            output = self.sample_plain(logits_BV, SampleInputs())
        else:
            send, index = self.transfers.send, self.transfers.index
            asked = make_sample_inputs(self.mirror, slots, lengths, self.vocab, send, index)
            output = self.sample_full(logits_BV, asked)
        if self.transfers.overlaps:
            where = self.transfers.send(slots.astype(self._index))
            self._newest_S[where] = output.tokens_B.to(self._newest_S.dtype)
        return output

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
            ids_N = self.mirror.tokens[slot, at + 1 : stop + 1].astype(self._index)
            wanted = self.transfers.send(ids_N)
            chosen = logprobs.gather(1, wanted[:, None])
            values, ids = logprobs.topk(count, dim=-1)
            rank = (logprobs > chosen).sum(-1) + 1
            found += logprob_rows([chosen[:, 0], rank, ids, values])
        return found
