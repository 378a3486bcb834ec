"""What a kernel is given when it is compared with others: the same numbers for each.

Legend: T tokens, B rows, C features, X experts, E experts a token, H heads, P page, D head size.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from inferplane.formats.dummy import DummyStore
from inferplane.layers.source import SharedTensors, SiteSource
from inferplane.planning.plan import Plan
from inferplane.plugins.site import Site
from inferplane.spec import (
    AttentionKernel,
    AttentionLimits,
    AttentionMetadata,
    AttentionRequest,
    Candidate,
    Device,
    GroupKind,
    WeightPart,
    standard_layout,
)
from inferplane.spec.torch_types import index_dtype, torch_dtype

if TYPE_CHECKING:
    import numpy as np
    import torch

CASES = ("decode", "prefill")
_CONTEXT = 4096
_SEED = 20
_PAGES = 61
"""Different pages in a cache, which repeat: to draw numbers for all would take minutes. A prime, so
that pages which a wrong stride would take for each other differ."""

Call = Callable[[], Any]


@dataclass
class Step:
    """What one case holds. A new one draws the same numbers, on the host."""

    plan: Plan
    case: str
    device: Device
    generator: Any = field(init=False)

    def __post_init__(self) -> None:
        import torch

        self.generator = torch.Generator().manual_seed(_SEED)

    @property
    def rows(self) -> int:
        return int(self.plan.effective["max_num_seqs"]) if self.case == "decode" else 1

    @property
    def tokens(self) -> int:
        if self.case == "decode":
            return self.rows
        return min(int(self.plan.effective["max_num_batched_tokens"]), self.context)

    @property
    def context(self) -> int:
        return min(_CONTEXT, int(self.plan.effective["max_model_len"]))

    def normal(self, *shape: int, dtype: str) -> torch.Tensor:
        import torch

        drawn = torch.randn(shape, generator=self.generator)
        return drawn.to(self.device.torch_device, torch_dtype(dtype))

    def packed(self, site: Site, kernel: Any) -> Any:
        """Random weights of the site, prepared."""
        target = self.device.torch_device
        store = _Weights(target, torch_dtype(self.plan.effective["dtype"]))
        return kernel.prepare(SiteSource(site, store, target, SharedTensors(site)))


class _Weights(DummyStore):
    """Biases, scales and orders that differ from one output, group or input to the next, so that a
    kernel which leaves them out or takes another's is told from a right one."""

    def read(self, part: WeightPart) -> torch.Tensor:
        import torch

        found, name = super().read(part), part.key.rpartition(".")[2]
        generator = torch.Generator().manual_seed(zlib.crc32(part.key.encode()))
        if name.endswith("bias"):
            return torch.randn(part.shape, generator=generator).to(found)
        if name == "order":
            return torch.randperm(part.shape[-1], generator=generator).to(found).expand_as(found)
        if name == "scale":
            twice = torch.randint(0, 2, part.shape, generator=generator)
            if part.dtype == "uint8":  # exponents
                return found + twice.to(found)
            return (found.float() * (1 + twice).to(found.device)).to(found.dtype)
        return found


def call_of(site: Site, request: Any, candidate: Candidate, kernel: Any, step: Step) -> Call:
    """A call of the kernel that gives its results."""
    return CALLS[request.op](site, request, candidate, kernel, step)


def _norm(site: Site, r: Any, candidate: Candidate, kernel: Any, step: Step) -> Call:
    x = step.normal(step.tokens, r.size, dtype=r.dtype)
    weight = step.normal(r.size, dtype=r.dtype)
    if r.op == "norm.rms":
        return lambda: kernel(x, weight)
    residual = step.normal(step.tokens, r.size, dtype=r.dtype)
    return lambda: kernel(x, residual, weight)


def _linear(site: Site, r: Any, candidate: Candidate, kernel: Any, step: Step) -> Call:
    packed = step.packed(site, kernel)
    inputs = r.in_features // (r.shards if r.sharding == "row" else 1)
    x_TC = step.normal(step.tokens, inputs, dtype=r.dtype)
    return lambda: kernel(x_TC, packed)


def _route(site: Site, r: Any, candidate: Candidate, kernel: Any, step: Step) -> Call:
    logits_TX = step.normal(step.tokens, r.experts, dtype=r.dtype)
    bias = (step.normal(r.experts, dtype="fp32"),) if r.bias else ()
    return lambda: kernel(logits_TX, *bias)


def _experts(site: Site, r: Any, candidate: Candidate, kernel: Any, step: Step) -> Call:
    import torch

    packed = step.packed(site, kernel)
    x_TC = step.normal(step.tokens, r.hidden, dtype=r.dtype)
    drawn = torch.rand(step.tokens, r.experts, generator=step.generator)
    experts_TE = drawn.topk(r.top_k).indices.to(step.device.torch_device, torch.int32)
    shares = 0.5 + torch.rand(step.tokens, r.top_k, generator=step.generator)
    weights_TE = (shares / shares.sum(-1, keepdim=True)).to(step.device.torch_device)
    return lambda: kernel(x_TC, weights_TE, experts_TE, packed)


def _attention(site: Site, r: Any, candidate: Candidate, kernel: Any, step: Step) -> Call:
    """Pages lie in a random order, as they do after a while. The last one of a row is not full."""
    import numpy as np
    import torch

    rows, target = step.rows, step.device.torch_device
    length = max(1, step.context - 3) if step.case == "decode" else step.tokens
    width, each = -(-length // r.page_size), step.tokens // rows
    order = np.random.default_rng(_SEED).permutation(rows * width).astype(np.int32)
    pages_BW = order.reshape(rows, width)
    at = np.arange(length - each, length)
    cells_T = (
        pages_BW[:, at // r.page_size].astype(np.int64) * r.page_size + at % r.page_size
    ).ravel()
    cache, wire = _filled(r, candidate, kernel, step, rows * width)
    scales = torch.tensor((0.5, 0.5 if r.kind is GroupKind.LATENT else 2.0))
    k_TKD, v_TKD = _new(r, wire, cells_T, scales)
    limits = AttentionLimits(max_rows=rows, max_tokens=step.tokens, max_context=length)
    slots = torch.from_numpy(cells_T).to(index_dtype(step.device.props))
    metadata = AttentionMetadata(
        query_starts=np.arange(0, step.tokens + 1, each, dtype=np.int32),
        context_lens=np.full(rows, length, np.int32),
        page_table=pages_BW,
        slots=slots.numpy(),
        decodes=rows if step.case == "decode" else 0,
        device_slots=slots.to(target),
        pin=step.device.pin,
    )
    plan = kernel.plan(metadata, kernel.buffers(limits, target))
    q_THD = step.normal(step.tokens, r.heads, r.head_dim, dtype=r.dtype)
    out = torch.full_like(q_THD[..., : r.out_dim], float("nan"))
    sinks_H = step.normal(r.heads, dtype="fp32") if r.sinks else None
    more = scales.to(target) if r.kv_scales else None
    k, v = k_TKD.to(target), v_TKD.to(target)

    def run() -> torch.Tensor:
        kernel.run(q_THD, k, v, cache, plan, out, sinks_H, more)
        return out

    return run


def _filled(
    r: AttentionRequest, candidate: Candidate, kernel: Any, step: Step, pages: int
) -> tuple[Any, torch.Tensor]:
    """(a cache whose page p holds page p modulo n of the wire form, these n pages, on the host)."""
    import torch

    layout = candidate.layout(r) if candidate.layout else standard_layout(r)
    own = getattr(type(kernel), "import_pages", None) is not AttentionKernel.import_pages
    if layout.name not in ("standard", "latent") and not own:
        raise NotImplementedError(
            f"its cache, of the layout {layout.name!r}, cannot be filled to compare its results: "
            "it has no import_pages of its own"
        )
    shape = standard_layout(r).shape
    drawn = torch.randn(min(pages, _PAGES), *shape, generator=step.generator)
    wire = drawn.to(torch_dtype(r.kv_dtype))
    cache = kernel.allocate(layout, pages, step.device.torch_device)
    for first in range(0, pages, len(wire)):
        ids = list(range(first, min(first + len(wire), pages)))
        kernel.import_pages(cache, ids, wire[: len(ids)])
    return cache, wire


def _new(
    r: AttentionRequest, wire: torch.Tensor, cells_T: np.ndarray, scales: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of the step's tokens, as the cache has them. cells_T: page * P + offset."""
    import torch

    page, offset = torch.from_numpy(cells_T // r.page_size), torch.from_numpy(cells_T % r.page_size)
    kept = wire.float()[page % len(wire), offset]
    if r.kind is GroupKind.LATENT:
        k = kept.unsqueeze(1) * (scales[0] if r.kv_scales else 1)
        k = k.to(torch_dtype(r.dtype))
        return k, k[..., : r.out_dim]
    if r.kv_scales:
        kept = kept * scales.view(2, 1, 1)
    kept = kept.to(torch_dtype(r.dtype))
    return kept[:, 0].contiguous(), kept[:, 1].contiguous()


CALLS: dict[str, Callable[[Site, Any, Candidate, Any, Step], Call]] = {
    "norm.rms": _norm,
    "norm.add_rms": _norm,
    "linear": _linear,
    "moe.route": _route,
    "moe.experts": _experts,
    "attention": _attention,
}
