"""Attention over drawn batches: the kernel's result, and the reference's.

Legend: B rows, T tokens, H query heads, K kv heads, D head size, P page.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from inferplane_triton.attention import Attention
from inferplane_triton.latent import LatentAttention
from interpreter_platform import PROPS

from inferplane.reference.attention import Attention as Reference
from inferplane.spec import AttentionLimits, AttentionMetadata, AttentionRequest, GroupKind
from inferplane.spec.kv import standard_layout
from inferplane.spec.torch_types import torch_dtype

FEW_CORES = replace(PROPS, cores=8)
SMALL = {"queries": 16, "keys": 16, "warps": 4, "stages": 1}
FEW_HEADS = {"rows": 16, "keys": 16, "warps": 4, "stages": 1, "waves": 4}
ROWS = {"rows": 16, "keys": 16, "warps": 4, "stages": 1}
SPLIT = {"keys": 16, "warps": 4, "stages": 1, "waves": 4}


def request(device: Any = FEW_CORES, **fields: Any) -> AttentionRequest:
    given = {"heads": 4, "kv_heads": 2, "head_dim": 32, "dtype": "fp32", "page_size": 4} | fields
    given.setdefault("kv_dtype", given["dtype"])
    given.setdefault("scale", given["head_dim"] ** -0.5)
    given.setdefault("kind", GroupKind.WINDOW if given.get("window") else GroupKind.FULL)
    return AttentionRequest(device=device, **given)


def latent(device: Any = FEW_CORES, **fields: Any) -> AttentionRequest:
    given = {"heads": 4, "head_dim": 40, "value_dim": 32} | fields
    return request(device, kv_heads=1, kind=GroupKind.LATENT, **given)


def metadata(rows: list[tuple[int, int]], page: int, rng: np.random.Generator) -> AttentionMetadata:
    """rows: (tokens before, new tokens), decodes first. Pages lie in no order."""
    lengths = np.array([before + new for before, new in rows], np.int32)
    width = max(1, -(-int(lengths.max()) // page))
    table = rng.permutation(len(rows) * width).astype(np.int32).reshape(len(rows), width)
    new = [n for _, n in rows]
    return AttentionMetadata(
        query_starts=np.cumsum([0, *new]).astype(np.int32),
        context_lens=lengths,
        page_table=table,
        slots=np.zeros(sum(new), np.int64),
        decodes=next((i for i, n in enumerate(new) if n > 1), len(rows)),
        device_slots=torch.zeros(sum(new), dtype=torch.int64),
    )


def tensors(r: AttentionRequest, meta: AttentionMetadata, seed: int = 0) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(seed)
    pages, tokens = meta.page_table.size, int(meta.query_starts[-1])
    shape = standard_layout(r).shape
    cache = torch.randn(pages, *shape, generator=draw)
    q = torch.randn(tokens, r.heads, r.head_dim, generator=draw).to(torch_dtype(r.dtype))
    sinks = torch.randn(r.heads, generator=draw).to(q.dtype) if r.sinks else None
    scales = torch.tensor([0.75, 1.5]) if r.kv_scales else None
    return {"q": q, "cache": cache.to(torch_dtype(r.kv_dtype)), "sinks": sinks, "scales": scales}


def both(
    r: AttentionRequest, rows: list[tuple[int, int]], **configurations: Any
) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """(found, right in fp64, the plan)."""
    meta = metadata(rows, r.page_size, np.random.default_rng(0))
    given = tensors(r, meta)
    if r.kind is GroupKind.LATENT:
        kernel: Any = LatentAttention(r, **{"decode": FEW_HEADS, "prefill": ROWS} | configurations)
    else:
        kernel = Attention(r, **{"decode": SPLIT, "prefill": SMALL} | configurations)
    limits = AttentionLimits(max_rows=len(rows), max_tokens=len(given["q"]), max_context=512)
    plan = kernel.plan(meta, kernel.buffers(limits, torch.device("cpu")))
    found = torch.full_like(given["q"][..., : r.out_dim], float("nan"))
    extra = given["sinks"], given["scales"]
    kernel.run(given["q"], None, None, given["cache"], plan, found, *extra)
    right = torch.zeros(found.shape, dtype=torch.float64)
    sinks = None if given["sinks"] is None else given["sinks"].double()
    oracle = Reference(replace(r, dtype="fp64", kv_dtype="fp64"))
    q, cache = given["q"].double(), given["cache"].float().double()
    oracle.run(q, None, None, cache, oracle.plan(meta, None), right, sinks, given["scales"])
    return found, right, plan


def error(found: torch.Tensor, right: torch.Tensor) -> float:
    """The largest, as a share of the largest right value. NaN counts as infinite."""
    gap = (found.double() - right).abs().nan_to_num(float("inf"))
    return float(gap.max() / right.abs().max())
