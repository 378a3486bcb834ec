"""Paged attention out of torch's CPU flash kernel, without gathering pages where it can.

The standard layout makes a run of consecutive pages one strided view, which flash attention reads
in place. A context of several runs is attended run by run; the parts are joined by their
log-sum-exp (as in FlashDecoding). The pool hands out consecutive pages where it can, so there is
usually one run. A run that several rows read, a shared prefix, is read once for all of them.
A sink is one more part, without a value: what it takes follows from the log-sum-exp too.

Legend: N new tokens of a row, L context, H heads, K kv heads, G = H/K, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from inferplane.spec import AttentionKernel, AttentionMetadata, KVLayout
from inferplane.spec.torch_types import torch_dtype

flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default


@dataclass(slots=True)
class Row:
    """One request: its new tokens, the runs of cache slots before them, and a mask if needed.

    masked: slots of the window, gathered, and the mask over them; for windows in prefill.
    """

    first: int
    last: int
    runs: list[tuple[int, int]]
    masked: tuple[torch.Tensor, torch.Tensor] | None = None


@dataclass(slots=True)
class Shared:
    """A run that several rows read whole: their queries attend to it in one call.

    tokens: int64, the rows' tokens, one row after the other; rows: (row, first, last) in it.
    """

    run: tuple[int, int]
    tokens: torch.Tensor
    rows: list[tuple[Row, int, int]]


@dataclass(slots=True)
class Plan:
    rows: list[Row]
    shared: list[Shared]


Part = tuple[torch.Tensor, torch.Tensor]  # output [1, H or K, N or G, D], log-sum-exp


@dataclass(slots=True)
class Widened:
    """A cache of another type than the queries', indexed as if it were of theirs.

    scales: fp32 [2], of keys and values, or None.
    """

    flat: torch.Tensor
    dtype: torch.dtype
    scales: torch.Tensor | None

    def __getitem__(self, at: Any) -> torch.Tensor:
        # as bytes: not all types of 8 bits can be indexed
        raw = self.flat.view(torch.uint8) if self.flat.itemsize == 1 else self.flat
        kept = raw[at].view(self.flat.dtype).float()
        if self.scales is not None:
            latent = kept.dim() == 2
            kept *= self.scales[0] if latent else self.scales[:, None, None]
        return kept.to(self.dtype)


class FlashAttention(AttentionKernel):
    def allocate(self, layout: KVLayout, pages: int, device: torch.device) -> torch.Tensor:
        """Not zeroed: the host gives memory when it is first written."""
        return torch.empty((pages, *layout.shape), dtype=torch_dtype(layout.dtype), device=device)

    def plan(self, metadata: AttentionMetadata, buffers: Any) -> Plan:
        starts = metadata.query_starts.tolist()
        lengths = metadata.context_lens.tolist()
        rows = [
            self._row(starts[i], starts[i + 1], lengths[i], metadata.page_table[i])
            for i in range(metadata.rows)
            if starts[i] < starts[i + 1]
        ]
        return Plan(rows, share(rows))

    def _row(self, first: int, last: int, length: int, pages: np.ndarray) -> Row:
        new, window = last - first, self.request.window
        if new == 1:
            begin = max(0, length - window) if window else 0
            return Row(first, last, self._runs(pages, begin, length))
        if window and length > window:
            return Row(first, last, [], self._masked(pages, new, length))
        return Row(first, last, self._runs(pages, 0, length - new))

    def _runs(self, pages: np.ndarray, begin: int, end: int) -> list[tuple[int, int]]:
        """Slots of tokens begin to end, as few (first, last) ranges as the pages allow."""
        if begin >= end:
            return []
        page = self.request.page_size
        low, high = begin // page, -(-end // page)
        used = pages[low:high]
        cuts = np.flatnonzero(np.diff(used) != 1) + 1
        runs = []
        for a, b in zip([0, *cuts.tolist()], [*cuts.tolist(), high - low], strict=True):
            start = int(used[a]) * page
            skip = begin - low * page if a == 0 else 0
            runs.append((start + skip, start + min((b - a) * page, end - (low + a) * page)))
        return runs

    def _masked(
        self, pages: np.ndarray, new: int, length: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(slots [L'], additive mask [N, L']) of the tokens that any of the new ones reads."""
        page, window = self.request.page_size, self.request.window
        begin = max(0, length - new - window + 1)
        at = np.arange(begin, length)
        slots = torch.from_numpy(pages[at // page].astype(np.int64) * page + at % page)
        query = np.arange(length - new, length)[:, None]
        allowed = torch.from_numpy((at <= query) & (at > query - window))
        mask = torch.zeros(allowed.shape, dtype=torch_dtype(self.request.dtype))
        return slots, mask.masked_fill_(~allowed, float("-inf"))

    def run(
        self,
        q_THD: torch.Tensor,
        k_TKD: torch.Tensor,
        v_TKD: torch.Tensor,
        cache: torch.Tensor,
        plan: Plan,
        out_THD: torch.Tensor,
        sinks_H: torch.Tensor | None = None,
        kv_scales: torch.Tensor | None = None,
    ) -> None:
        flat: Any = cache.view(-1, *cache.shape[2:])
        if cache.dtype != q_THD.dtype:
            flat = Widened(flat, q_THD.dtype, kv_scales)
            k_TKD = as_cached(k_TKD, cache.dtype, None if kv_scales is None else kv_scales[0])
            v_TKD = as_cached(v_TKD, cache.dtype, None if kv_scales is None else kv_scales[1])
        size = self.request.out_dim
        done: dict[int, list[Part]] = {}
        for shared in plan.shared:
            self._shared(q_THD, flat, shared, done)
        for row in plan.rows:
            q_NHD, parts = q_THD[row.first : row.last], done.get(row.first, [])
            if row.last - row.first == 1:
                out_THD[row.first] = self._decode(q_NHD, flat, row, parts, sinks_H)[..., :size]
                continue
            q_1HND = q_NHD.transpose(0, 1)[None]
            if row.masked is not None:
                slots, mask = row.masked
                parts = [self._attend(q_1HND, flat[slots], mask)]
            else:
                self._prefill(q_1HND, k_TKD, v_TKD, flat, row, parts)
            joined = join(parts, None if sinks_H is None else sinks_H[None, :, None])
            out_THD[row.first : row.last] = joined[0].transpose(0, 1)[..., :size]

    def _shared(
        self, q_THD: torch.Tensor, flat: Any, shared: Shared, done: dict[int, list[Part]]
    ) -> None:
        """All rows' queries over one run; `done` gets each row's part, in the row's own shape."""
        kv_heads, size = self.request.kv_heads, q_THD.shape[-1]
        q_NKGD = q_THD[shared.tokens].view(len(shared.tokens), kv_heads, -1, size)
        q_1KXD = q_NKGD.transpose(0, 1).reshape(1, kv_heads, -1, size)
        begin, end = shared.run
        out, lse = self._attend(q_1KXD, flat[begin:end])
        out_KNGD = out.view(kv_heads, len(shared.tokens), -1, size)
        lse_KNG = lse.reshape(kv_heads, len(shared.tokens), -1)
        for row, first, last in shared.rows:
            part_KNGD, part_KNG = out_KNGD[:, first:last], lse_KNG[:, first:last]
            if last - first == 1:
                part = part_KNGD.transpose(0, 1), part_KNG.transpose(0, 1)
            else:
                part = (
                    part_KNGD.transpose(1, 2).flatten(0, 1).unsqueeze(0),
                    part_KNG.transpose(1, 2).flatten(0, 1).unsqueeze(0),
                )
            done.setdefault(row.first, []).append(part)

    def _decode(
        self,
        q_1HD: torch.Tensor,
        flat: Any,
        row: Row,
        parts: list[Part],
        sinks_H: torch.Tensor | None,
    ) -> torch.Tensor:
        """The G query heads of a kv head are the rows of one small matrix product: [H, D]."""
        kv_heads = self.request.kv_heads
        q_1KGD = q_1HD.view(1, kv_heads, -1, q_1HD.shape[-1])
        parts += [self._attend(q_1KGD, flat[a:b]) for a, b in row.runs]
        sinks = None if sinks_H is None else sinks_H.view(1, kv_heads, -1)
        return join(parts, sinks).reshape(q_1HD.shape[1:])

    def _prefill(
        self,
        q_1HND: torch.Tensor,
        k_TKD: torch.Tensor,
        v_TKD: torch.Tensor,
        flat: Any,
        row: Row,
        parts: list[Part],
    ) -> None:
        """The new tokens among themselves, from the step's own k and v; then what was before."""
        k_1KND = k_TKD[row.first : row.last].transpose(0, 1)[None]
        v_1KND = v_TKD[row.first : row.last].transpose(0, 1)[None]
        parts.append(flash(q_1HND, k_1KND, v_1KND, 0.0, True, scale=self.request.scale))
        parts += [self._attend(q_1HND, flat[a:b]) for a, b in row.runs]

    def _attend(
        self, q: torch.Tensor, kept: torch.Tensor, mask: torch.Tensor | None = None
    ) -> Part:
        k_1KLD, v_1KLD = self._keys_and_values(kept)
        out: Part = flash(q, k_1KLD, v_1KLD, attn_mask=mask, scale=self.request.scale)
        return out

    def _keys_and_values(self, kept: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Out of what the cache holds of L tokens, [L, 2, K, D]; each [1, K, L, D]."""
        k_1KLD, v_1KLD = kept.permute(1, 2, 0, 3).unsqueeze(1)
        return k_1KLD, v_1KLD


class LatentAttention(FlashAttention):
    """One vector a token, [L, D], for all heads: key and, in its first elements, value. The whole
    vector is taken as the value, since flash attention wants one size, and the rest is dropped."""

    def run(
        self,
        q_THD: torch.Tensor,
        k_TKD: torch.Tensor,
        v_TKD: torch.Tensor,
        cache: torch.Tensor,
        plan: Plan,
        out_THD: torch.Tensor,
        sinks_H: torch.Tensor | None = None,
        kv_scales: torch.Tensor | None = None,
    ) -> None:
        if kv_scales is None:
            super().run(q_THD, k_TKD, k_TKD, cache, plan, out_THD, sinks_H)
            return
        keys = kv_scales[:1].expand(2)
        super().run(q_THD, k_TKD, k_TKD, cache, plan, out_THD, sinks_H, keys)
        out_THD.mul_(kv_scales[1] / kv_scales[0])

    def _keys_and_values(self, kept: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return kept[None, None], kept[None, None]


def as_cached(x: torch.Tensor, dtype: torch.dtype, scale: torch.Tensor | None) -> torch.Tensor:
    """What a new key or value is once it was written to a cache of another type."""
    if scale is None:
        return x.to(dtype).to(x.dtype)
    return ((x.float() / scale).to(dtype).float() * scale).to(x.dtype)


def share(rows: list[Row]) -> list[Shared]:
    """Takes runs that several rows read whole out of the rows. A run is worth it from two on."""
    readers: dict[tuple[int, int], list[Row]] = {}
    for row in rows:
        for run in row.runs:
            readers.setdefault(run, []).append(row)
    found = []
    for run, same in readers.items():
        if len(same) < 2:
            continue
        tokens = np.concatenate([np.arange(row.first, row.last) for row in same])
        ends = np.cumsum([row.last - row.first for row in same]).tolist()
        spans = list(zip(same, [0, *ends[:-1]], ends, strict=True))
        found.append(Shared(run, torch.from_numpy(tokens), spans))
        for row in same:
            row.runs.remove(run)
    return found


def join(parts: list[Part], sinks: torch.Tensor | None = None) -> torch.Tensor:
    """Attention over a union of keys, from (output, log-sum-exp) over each part.

    sinks: logits that take probability, fp32, of the shape of the log-sum-exps.
    """
    if len(parts) == 1 and sinks is None:
        return parts[0][0]
    lse = torch.stack([part[1] for part in parts]).float()
    weights = torch.softmax(lse, dim=0)
    if sinks is not None:
        weights *= torch.sigmoid(lse.logsumexp(0) - sinks)
    outs = torch.stack([part[0] for part in parts])
    return (outs.float() * weights.unsqueeze(-1)).sum(0).to(outs.dtype)
