"""op "attention": paged, standard layout. Decodes and prefills of one step are two launches.

Legend: T tokens, B rows, H query heads, K kv heads, G = H/K, D head size, P page, S splits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from inferplane.spec import AttentionKernel, AttentionLimits, AttentionMetadata, AttentionRequest

from . import defaults
from .decode import decode_kernel, join_kernel
from .launch import launch, power_of_two
from .plan import Buffers, Plan, allocate, fill, scratch_rows, splits_of
from .prefill import prefill_kernel
from .tuned_files import configured

_MOST_SPLITS = 64
_TENSOR_CORE_ROWS = 16  # the fewest rows of a matrix product


class Attention(AttentionKernel):
    """Full and sliding-window attention over grouped heads, with sinks, soft-capping and
    scaled caches.

    Everything that a decode launch is made of but the plan's integers, which lie in device memory,
    is fixed by the number of rows: steps of decodes can be captured.
    """

    def __init__(
        self,
        request: AttentionRequest,
        decode: Mapping[str, int] | None = None,
        prefill: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(request)
        r = request
        self.decode = decode or configured("attention", r, "decode", defaults.decode(r))
        self.prefill = prefill or configured("attention", r, "prefill", defaults.prefill(r))
        self.groups = request.heads // request.kv_heads
        self.tile = max(self.prefill["queries"], power_of_two(self.groups))
        self.queries = self.tile // self.groups  # tokens a tile
        self.programs = (request.device.cores or defaults.CORES) * self.decode["waves"]
        self.block_d = max(16, power_of_two(request.head_dim))
        self.constants = {
            "H": request.heads,
            "K": request.kv_heads,
            "SIZE": request.head_dim,
            "PAGE": request.page_size,
            "WINDOW": request.window,
            "SINKS": request.sinks,
            "SOFTCAP": request.softcap != 0.0,
            "SCALES": request.kv_scales,
            "BLOCK_D": self.block_d,
        }

    def buffers(self, limits: AttentionLimits, device: torch.device) -> Buffers:
        r, most = self.request, self._most_splits(limits.max_context)
        rows = scratch_rows(limits.max_rows, r.kv_heads, self.programs, most)
        sums = rows * r.heads
        scratch = sums * r.head_dim, sums
        return allocate(limits, r.page_size, self.queries, scratch, most, device)

    def _most_splits(self, context: int) -> int:
        """No more than give each split two tiles of keys in the longest row."""
        window = self.request.window
        longest = min(context, window) if window else context
        useful = max(1, longest // (2 * self.decode["keys"]))
        return min(_MOST_SPLITS, 1 << (useful.bit_length() - 1))

    def plan(self, metadata: AttentionMetadata, buffers: Buffers) -> Plan:
        decodes = metadata.decodes
        splits = splits_of(decodes, self.request.kv_heads, self.programs, buffers.most_splits)
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
        given = sinks_H, kv_scales
        if plan.decodes:
            self._decode(q_THD, cache, plan, out_THD, given)
        if plan.tiles:
            self._prefill(q_THD, cache, plan, out_THD, given)

    def _decode(
        self, q_THD: torch.Tensor, cache: Any, plan: Plan, out_THD: torch.Tensor, given: Any
    ) -> None:
        r, b, config = self.request, plan.buffers, self.decode
        rows = max(_TENSOR_CORE_ROWS, power_of_two(self.groups)) if self.groups > 1 else 1
        strides = q_THD.stride(0), q_THD.stride(1), out_THD.stride(0), out_THD.stride(1)
        launch(
            decode_kernel,
            (plan.decodes, r.kv_heads, plan.splits),
            *(
                q_THD,
                cache,
                out_THD,
                b.parts,
                b.sums,
                *given,
                b.starts,
                b.lengths,
                b.table,
                b.widths,
            ),
            *strides,
            r.scale,
            r.softcap,
            **self.constants,
            SPLITS=plan.splits,
            BLOCK_M=rows,
            BLOCK_N=config["keys"],
            options={"num_warps": config["warps"], "num_stages": config["stages"]},
        )
        if plan.splits > 1:
            launch(
                join_kernel,
                (plan.decodes, r.heads),
                *(b.parts, b.sums, out_THD, given[0], b.starts, *strides[2:]),
                H=r.heads,
                SIZE=r.head_dim,
                SPLITS=plan.splits,
                SINKS=r.sinks,
                BLOCK_D=self.block_d,
                options={"num_warps": 4},
            )

    def _prefill(
        self, q_THD: torch.Tensor, cache: Any, plan: Plan, out_THD: torch.Tensor, given: Any
    ) -> None:
        r, b, config = self.request, plan.buffers, self.prefill
        launch(
            prefill_kernel,
            (plan.tiles, r.kv_heads),
            *(q_THD, cache, out_THD, *given, b.tiles, b.starts, b.lengths, b.table, b.widths),
            q_THD.stride(0),
            q_THD.stride(1),
            out_THD.stride(0),
            out_THD.stride(1),
            r.scale,
            r.softcap,
            **self.constants,
            CAUSAL=r.causal,
            BLOCK_M=self.tile,
            BLOCK_N=config["keys"],
            options={"num_warps": config["warps"], "num_stages": config["stages"]},
        )
