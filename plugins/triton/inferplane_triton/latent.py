"""op "attention" for latent groups in the absorbed form: all heads read one vector a token, whose
first elements are the value as well (MLA, DeepSeek-V2, arXiv 2405.04434).

Legend: T tokens, B rows, H query heads, D size of the vector, V of the value, R = D - V, P page, S
splits, M rows of a tile (queries and heads), N keys.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import triton
import triton.language as tl

from inferplane.spec import AttentionKernel, AttentionLimits, AttentionMetadata, AttentionRequest

from . import defaults
from .decode import join_kernel
from .launch import launch, power_of_two
from .plan import Buffers, Plan, allocate, fill, scratch_rows, splits_of
from .softmax import logits_base_2, page_of
from .tuned_files import configured

_MOST_SPLITS = 64


@triton.jit
def latent_kernel(
    q, cache, out, parts, sums, kv_scales, tiles, starts, lengths, table, widths,
    q_t, q_h, out_t, out_h, scale,
    H: tl.constexpr, SIZE: tl.constexpr, VALUE: tl.constexpr, PAGE: tl.constexpr,
    SPLITS: tl.constexpr, DECODE: tl.constexpr, SCALES: tl.constexpr, HEADS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """A program: BLOCK_M / HEADS queries of one row, HEADS heads, one split of the keys.

    DECODE: the program's number is the row, which has one query. Else tiles [n, 2] says a row and
    its first query. With several splits, writes parts [B, H, S, V] and sums [B, H, S].
    """
    row, first = tl.program_id(0), 0
    if not DECODE:
        first = tl.load(tiles + 2 * row + 1)
        row = tl.load(tiles + 2 * row)
    begin = tl.load(starts + row)
    new = tl.load(starts + row + 1) - begin
    length = tl.load(lengths + row)
    pages = table + row.to(tl.int64) * tl.load(widths)
    if SCALES:
        scale = scale * tl.load(kv_scales)
    QUERIES: tl.constexpr = BLOCK_M // HEADS
    m = tl.arange(0, BLOCK_M)
    query, head = first + m // HEADS, tl.program_id(1) * HEADS + m % HEADS
    exists = (query < new) & (head < H)
    seen = length - new + query
    token = (begin + query).to(tl.int64)
    v, r = tl.arange(0, BLOCK_V), VALUE + tl.arange(0, BLOCK_R)
    place = q + (token * q_t + head * q_h)[:, None]
    q_v = tl.load(place + v[None, :], mask=exists[:, None] & (v < VALUE)[None, :], other=0.0)
    q_r = tl.load(place + r[None, :], mask=exists[:, None] & (r < SIZE)[None, :], other=0.0)
    last = tl.minimum(length - new + first + QUERIES, length)
    split = tl.program_id(2)
    each = tl.cdiv(tl.cdiv(last, BLOCK_N), SPLITS) * BLOCK_N
    low = split * each
    high = tl.minimum(low + each, last)
    acc = tl.zeros((BLOCK_M, BLOCK_V), tl.float32)
    top = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    n = tl.arange(0, BLOCK_N)
    page = page_of(pages, low + n, low + n < high, PAGE)
    for start in range(low, high, BLOCK_N):
        at = start + n
        valid = at < high
        keys = cache + ((page.to(tl.int64) * PAGE + at % PAGE) * SIZE)[:, None]
        mask = valid[:, None] & (v < VALUE)[None, :]
        value = tl.load(keys + v[None, :], mask=mask, other=0.0).to(tl.float32).to(q_v.dtype)
        mask = valid[:, None] & (r < SIZE)[None, :]
        rest = tl.load(keys + r[None, :], mask=mask, other=0.0).to(tl.float32).to(q_v.dtype)
        scores = tl.dot(q_v, tl.trans(value), input_precision="ieee")
        scores = tl.dot(q_r, tl.trans(rest), scores, input_precision="ieee")
        scores = logits_base_2(scores, scale, 0.0, False)
        allowed = valid[None, :] & (at[None, :] <= seen[:, None])
        scores = tl.where(allowed, scores, float("-inf"))
        new_top = tl.maximum(top, tl.max(scores, axis=1))
        shift = tl.where(new_top == float("-inf"), 0.0, new_top)
        weights = tl.exp2(scores - shift[:, None])
        fade = tl.exp2(top - shift)
        total = total * fade + tl.sum(weights, axis=1)
        acc = acc * fade[:, None]
        acc = tl.dot(weights.to(value.dtype), value, acc, input_precision="ieee")
        top = new_top
        page = page_of(pages, at + BLOCK_N, at + BLOCK_N < high, PAGE)
    acc = acc / tl.where(total == 0.0, 1.0, total)[:, None]
    if SCALES:
        acc = acc * tl.load(kv_scales + 1)
    mask = exists[:, None] & (v < VALUE)[None, :]
    if SPLITS == 1:
        place = out + (token * out_t + head * out_h)[:, None] + v[None, :]
        tl.store(place, acc.to(out.dtype.element_ty), mask=mask)
    else:
        part = (row.to(tl.int64) * H + head) * SPLITS + split
        tl.store(parts + part[:, None] * VALUE + v[None, :], acc, mask=mask)
        tl.store(sums + part, top + tl.log2(total), mask=exists)


class LatentAttention(AttentionKernel):
    """Decodes and prefills of one step are two launches of one kernel. As in `Attention`, a decode
    step is fixed by its number of rows."""

    def __init__(
        self,
        request: AttentionRequest,
        decode: Mapping[str, int] | None = None,
        prefill: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(request)
        r = request
        self.decode, self.prefill = (
            given or configured("attention", r, case, defaults.latent(r, case))
            for case, given in (("latent decode", decode), ("latent prefill", prefill))
        )
        self.queries = max(1, self.prefill["rows"] // self._heads(self.prefill))
        self.programs = (r.device.cores or defaults.CORES) * self.decode["waves"]
        self.constants = {
            "H": r.heads,
            "SIZE": r.head_dim,
            "VALUE": r.out_dim,
            "PAGE": r.page_size,
            "SCALES": r.kv_scales,
            "BLOCK_V": max(16, power_of_two(r.out_dim)),
            "BLOCK_R": max(16, power_of_two(r.head_dim - r.out_dim)),
        }

    def _heads(self, config: Mapping[str, int]) -> int:
        """Heads of a tile."""
        return min(config["rows"], power_of_two(self.request.heads))

    def _head_tiles(self, config: Mapping[str, int]) -> int:
        return -(-self.request.heads // self._heads(config))

    def buffers(self, limits: AttentionLimits, device: torch.device) -> Buffers:
        r = self.request
        useful = max(1, limits.max_context // (2 * self.decode["keys"]))
        most = min(_MOST_SPLITS, 1 << (useful.bit_length() - 1))
        rows = scratch_rows(limits.max_rows, self._head_tiles(self.decode), self.programs, most)
        scratch = rows * r.heads * r.out_dim, rows * r.heads
        return allocate(limits, r.page_size, self.queries, scratch, most, device)

    def plan(self, metadata: AttentionMetadata, buffers: Buffers) -> Plan:
        decodes, heads = metadata.decodes, self._head_tiles(self.decode)
        splits = splits_of(decodes, heads, self.programs, buffers.most_splits)
        return Plan(buffers, decodes, splits, fill(buffers, metadata, self.queries))

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
        r, b = self.request, plan.buffers
        if plan.decodes:
            self._launch(q_THD, cache, plan, out_THD, kv_scales, plan.decodes, plan.splits)
        if plan.tiles:
            self._launch(q_THD, cache, plan, out_THD, kv_scales, plan.tiles, 0)
        if plan.decodes and plan.splits > 1:
            launch(
                join_kernel,
                (plan.decodes, r.heads),
                *(b.parts, b.sums, out_THD, None, b.starts, out_THD.stride(0), out_THD.stride(1)),
                H=r.heads,
                SIZE=r.out_dim,
                SPLITS=plan.splits,
                SINKS=False,
                BLOCK_D=self.constants["BLOCK_V"],
                options={"num_warps": 4},
            )

    def _launch(
        self,
        q_THD: torch.Tensor,
        cache: torch.Tensor,
        plan: Plan,
        out_THD: torch.Tensor,
        kv_scales: torch.Tensor | None,
        programs: int,
        splits: int,
    ) -> None:
        """splits: of each decode; 0 for tiles of prefills."""
        b, config = plan.buffers, self.decode if splits else self.prefill
        heads = self._heads(config)
        launch(
            latent_kernel,
            (programs, self._head_tiles(config), max(1, splits)),
            *(q_THD, cache, out_THD, b.parts, b.sums, kv_scales),
            *(b.tiles, b.starts, b.lengths, b.table, b.widths),
            *(q_THD.stride(0), q_THD.stride(1), out_THD.stride(0), out_THD.stride(1)),
            self.request.scale,
            **self.constants,
            SPLITS=max(1, splits),
            DECODE=splits > 0,
            HEADS=heads,
            BLOCK_M=max(16, heads) if splits else heads * self.queries,
            BLOCK_N=config["keys"],
            options={"num_warps": config["warps"], "num_stages": config["stages"]},
        )
