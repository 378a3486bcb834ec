"""One step of paged attention, and a kernel's answer beside the reference's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from inferplane.reference.attention import Attention
from inferplane.spec import (
    AttentionLimits,
    AttentionMetadata,
    AttentionRequest,
    DeviceProps,
    GroupKind,
)
from inferplane.spec.torch_types import torch_dtype

TOLERANCE = {"fp32": 1e-5, "bf16": 2e-2, "fp16": 4e-3}


def ask(props: DeviceProps, **changes: Any) -> AttentionRequest:
    """A request for small heads, with changes."""
    fields: dict[str, Any] = {
        "heads": 8,
        "kv_heads": 2,
        "head_dim": 64,
        "dtype": "bf16",
        "page_size": 16,
        "scale": 0.125,
    }
    fields |= changes
    fields.setdefault("kv_dtype", fields["dtype"])
    if fields.get("window"):
        fields["kind"] = GroupKind.WINDOW
    return AttentionRequest(device=props, **fields)


class Step:
    """rows: (tokens before, new tokens), decodes first. Pages lie in a random order; those outside
    of a window are gone (-1)."""

    def __init__(
        self,
        request: AttentionRequest,
        rows: Sequence[tuple[int, int]],
        seed: int = 0,
        padded: bool = False,
        pool: int = 64,
    ) -> None:
        rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        page = request.page_size
        counts = [-(-(before + new) // page) for before, new in rows]
        order = rng.permutation(pool).astype(np.int32)
        table = np.full((len(rows), max(counts)), -1, dtype=np.int32)
        first = 0
        for row, ((before, _), count) in enumerate(zip(rows, counts, strict=True)):
            gone = max(0, before - request.window + 1) // page if request.window else 0
            table[row, gone:count] = order[first + gone : first + count]
            first += count
        slots = np.concatenate(
            [
                table[row, np.arange(b, b + n) // page].astype(np.int64) * page
                + np.arange(b, b + n) % page
                for row, (b, n) in enumerate(rows)
            ]
        )
        self.metadata = AttentionMetadata(
            query_starts=np.cumsum([0, *(n for _, n in rows)]).astype(np.int32),
            context_lens=np.array([b + n for b, n in rows], dtype=np.int32),
            page_table=table,
            slots=slots,
            decodes=sum(n == 1 for _, n in rows),
            device_slots=torch.from_numpy(slots),
            padded=padded,
        )
        dtype = torch_dtype(request.dtype)
        shape = (pool, page, 2, request.kv_heads, request.head_dim)
        self.cache = torch.randn(shape, generator=generator).to(dtype)
        flat = self.cache.view(-1, *shape[2:])[torch.from_numpy(slots)]
        self.k, self.v = flat[:, 0], flat[:, 1]
        q = torch.randn(len(slots), request.heads + 2, request.head_dim, generator=generator)
        self.q = q.to(dtype)[:, : request.heads]  # a view, as out of a fused projection
        self.request = request

    def run(
        self, kernel: Any, buffers: Any = None, sinks: torch.Tensor | None = None
    ) -> torch.Tensor:
        out = torch.full_like(self.q, float("nan"))
        plan = kernel.plan(self.metadata, buffers)
        kernel.run(self.q, self.k, self.v, self.cache, plan, out, sinks)
        return out

    def check(
        self,
        make: Callable[[AttentionRequest], Any],
        limits: AttentionLimits | None = None,
        sinks: torch.Tensor | None = None,
    ) -> None:
        """The kernel gives what the reference gives."""
        kernel = make(self.request)
        buffers = kernel.buffers(limits, torch.device("cpu")) if limits else None
        found, expected = self.run(kernel, buffers, sinks), self.reference(sinks)
        tolerance = TOLERANCE[self.request.dtype]
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)

    def reference(self, sinks: torch.Tensor | None = None) -> torch.Tensor:
        return self.run(Attention(self.request), None, sinks)
