"""Attention kernels with one mistake each."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from inferplane.reference.attention import Attention
from inferplane.spec import GroupKind


class OwnScale(Attention):
    """1/sqrt(D), whatever is asked for."""

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sinks: Any) -> torch.Tensor:
        return super().attend(q * (q.shape[-1] ** -0.5 / self.request.scale), k, v, sinks)


class Window(Attention):
    longer = 0

    def mask(self, new: int, length: int, device: torch.device) -> torch.Tensor:
        at_N1 = torch.arange(length - new, length)[:, None]
        at_L = torch.arange(length)
        allowed = at_L <= at_N1 if self.request.causal else at_L >= 0
        if self.request.window:
            allowed = allowed & (at_L > at_N1 - self.request.window - self.longer)
        return allowed.expand(new, length)


class WindowLonger(Window):
    longer = 1


class WindowShorter(Window):
    longer = -1

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sinks: Any) -> torch.Tensor:
        return super().attend(q, k, v, sinks).nan_to_num(0.0)


class NoSinks(Attention):
    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sinks: Any) -> torch.Tensor:
        return super().attend(q, k, v, None)


class SeesNext(Attention):
    def mask(self, new: int, length: int, device: torch.device) -> torch.Tensor:
        allowed = super().mask(new, length, device)
        return allowed | allowed.roll(-1, 0) if new > 1 else allowed


class MissesItself(Attention):
    def mask(self, new: int, length: int, device: torch.device) -> torch.Tensor:
        allowed = super().mask(new, length, device).clone()
        if length > 1:
            allowed[-1, -1] = False
        return allowed


class HeadsInTurn(Attention):
    """Head h reads kv head h % K, not h // G."""

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sinks: Any) -> torch.Tensor:
        groups = q.shape[1] // k.shape[1]
        return super().attend(q, *(x.repeat(1, groups, 1) for x in (k, v)), sinks)


class Planned(Attention):
    """Changes the page table before it attends."""

    def pages(self, row: np.ndarray, length: int) -> np.ndarray:
        return row

    def plan(self, metadata: Any, buffers: Any) -> Any:
        table = metadata.page_table.copy()
        for row in range(metadata.rows):
            table[row] = self.pages(table[row], int(metadata.context_lens[row]))
        metadata.page_table = table
        return metadata


class WrongPageAtBoundary(Planned):
    """A context that ends with its page reads the page before it for the last."""

    def pages(self, row: np.ndarray, length: int) -> np.ndarray:
        last = length // self.request.page_size - 1
        if length % self.request.page_size == 0 and last > 0:
            row[last] = row[last - 1]
        return row


class PagesSorted(Planned):
    def pages(self, row: np.ndarray, length: int) -> np.ndarray:
        used = -(-length // self.request.page_size)
        row[:used] = np.sort(row[:used])
        return row


class FirstRowsPages(Attention):
    def plan(self, metadata: Any, buffers: Any) -> Any:
        table = metadata.page_table.copy()
        short = metadata.context_lens <= metadata.context_lens[0]
        table[short] = table[0]
        metadata.page_table = table
        return metadata


class Whole(Attention):
    """Reads whole pages. masked: the end of the last one gets the weight 0, but is not cleared."""

    masked = False

    def run(self, q: Any, k: Any, v: Any, cache: Any, plan: Any, out: Any, *more: Any) -> None:
        super().run(q, k, v, cache, plan, out, *more)
        page = self.request.page_size
        for row in range(plan.rows):
            length = int(plan.context_lens[row])
            if length % page == 0 or self.request.window:
                continue
            rows = slice(int(plan.query_starts[row]), int(plan.query_starts[row + 1]))
            stale = cache[int(plan.page_table[row, length // page]), length % page :, 1]
            weight = 0.0 if self.masked else 1e-3
            out[rows] += weight * stale.sum() / stale.numel()


class StaleLastPage(Whole):
    pass


class StaleTimesZero(Whole):
    masked = True


class HalfSums(Attention):
    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sinks: Any) -> torch.Tensor:
        return super().attend(q, k, v, sinks).half().float()


class ClearsNextPage(Attention):
    def run(self, q: Any, k: Any, v: Any, cache: Any, plan: Any, out: Any, *more: Any) -> None:
        super().run(q, k, v, cache, plan, out, *more)
        cache[0] = 0.0


class WritesAround(Attention):
    def run(self, q: Any, k: Any, v: Any, cache: Any, plan: Any, out: Any, *more: Any) -> None:
        super().run(q, k, v, cache, plan, out, *more)
        size = (out.shape[0] + 1, *out.shape[1:])
        out.as_strided(size, out.stride(), out.storage_offset())[-1] = 0.0


class CopiesBackwards(Attention):
    def copy_pages(self, cache: Any, source: Any, target: Any) -> None:
        super().copy_pages(cache, source[::-1], target[::-1])


class ExportsSwapped(Attention):
    def export_pages(self, cache: Any, pages: Any) -> torch.Tensor:
        return super().export_pages(cache, pages).flip(2).contiguous()


class LatentValuesLast(Attention):
    """Takes the last part of a latent vector for the value."""

    def _keys_and_values(self, kept: torch.Tensor, kv_scales: Any) -> Any:
        k_LKD, v_LKD = super()._keys_and_values(kept, kv_scales)
        if self.request.kind is GroupKind.LATENT:
            v_LKD = k_LKD[..., -self.request.out_dim :]
        return k_LKD, v_LKD


class NoKVScales(Attention):
    def run(self, *given: Any, kv_scales: Any = None, **more: Any) -> None:
        super().run(*given, **more)


class KVScalesSwapped(Attention):
    def run(self, *given: Any, kv_scales: Any = None, **more: Any) -> None:
        flipped = None if kv_scales is None else kv_scales.flip(0)
        super().run(*given, kv_scales=flipped, **more)
