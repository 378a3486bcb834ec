"""Times all kernels that could serve each request of a model, and keeps their order.

A decode step has as many rows as may run at once, over contexts of up to 4,096 tokens; a prefill
step as many tokens as a step may have. Weights are random. A kernel's place is its time relative to
the fastest, averaged over both steps (geometric mean), since one kernel serves both.

Legend: T tokens, B rows, C features, X experts, E experts a token, H heads, P page.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inferplane.errors import UserError
from inferplane.formats.dummy import DummyStore
from inferplane.layers.source import SharedTensors, SiteSource
from inferplane.planning.plan import Plan
from inferplane.plugins.binding import make
from inferplane.plugins.resolution import Resolver, is_reference
from inferplane.plugins.site import Site
from inferplane.plugins.tuning import FORMAT, key_of, read_entries
from inferplane.spec import AttentionLimits, AttentionMetadata, Candidate, Device, standard_layout
from inferplane.spec.torch_types import torch_dtype

from .measuring import timed

if TYPE_CHECKING:
    import torch

CASES = ("decode", "prefill")
_CONTEXT = 4096


@dataclass
class Contest:
    """One request, and the kernels that could serve it. microseconds: by kernel and case; those
    that failed are in `failed`, with the reason."""

    site: Site
    request: Any
    able: list[Candidate]
    microseconds: dict[str, dict[str, float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def places(self) -> list[tuple[str, float]]:
        """Kernels with their relative time, best first."""
        times = self.microseconds
        least = {case: min(t[case] for t in times.values()) for case in CASES} if times else {}
        relative = {
            name: prod(t[case] / least[case] for case in CASES) ** (1 / len(CASES))
            for name, t in times.items()
        }
        return sorted(relative.items(), key=lambda item: (item[1], item[0]))

    def entry(self) -> dict[str, Any]:
        device, op, request = key_of(self.request)
        rows = [
            {
                "kernel": name,
                "relative": round(relative, 3),
                "microseconds": {c: round(t, 2) for c, t in self.microseconds[name].items()},
            }
            for name, relative in self.places()
        ]
        failed = [{"kernel": name, "reason": why} for name, why in self.failed.items()]
        return {"device": device, "op": op, "request": request, "kernels": rows, "failed": failed}


def contests(plan: Plan, op: str = "") -> list[Contest]:
    """Requests that more than one kernel could serve, each once. Reference kernels take no part,
    nor do those that no graph can hold while steps are captured, nor those that were forbidden."""
    sites = {site.path: site for site in plan.root.walk()}
    never = plan.resolver.pins.never
    found: dict[tuple[str, str, str], Contest] = {}
    for path, choice in plan.resolution.choices.items():
        request = choice.request
        if request.op not in _CALLS or op not in ("", request.op):
            continue
        able = [
            candidate
            for candidate in plan.catalog.candidates
            if candidate.op == request.op
            and not is_reference(candidate)
            and (request.op, candidate.name) not in never
            and not (plan.graph and candidate.capture == "none")
            and Resolver([candidate]).choose(request).found
        ]
        if len(able) > 1:
            found.setdefault(key_of(request), Contest(sites[path], request, able))
    return list(found.values())


def compare(contest: Contest, plan: Plan, device: Device) -> None:
    """Fills the contest in."""
    for candidate in contest.able:
        try:
            kernel = make(candidate, contest.request)
            call = _CALLS[contest.request.op]
            contest.microseconds[candidate.name] = {
                case: 1e6
                * timed(
                    call(contest, candidate, kernel, _Step(plan, case, device)), device.synchronize
                )
                for case in CASES
            }
        except Exception as error:
            contest.failed[candidate.name] = f"{type(error).__name__}: {error}"
        device.empty_cache()


def write(found: Sequence[Contest], path: Path, versions: dict[str, str]) -> None:
    """Entries of other requests and devices that the file has are kept."""
    entries = read_entries(path) if path.exists() else {}
    entries |= {key_of(contest.request): contest.entry() for contest in found}
    made = {"date": datetime.now(UTC).date().isoformat(), **versions}
    document = {"format": FORMAT, "made": made, "entries": list(entries.values())}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error}); name another file: --out") from error


@dataclass
class _Step:
    """What one case holds."""

    plan: Plan
    case: str
    device: Device

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

        return torch.randn(shape).to(self.device.torch_device, torch_dtype(dtype))

    def packed(self, site: Site, kernel: Any) -> Any:
        """Random weights of the site, prepared."""
        target = self.device.torch_device
        store = DummyStore(target, torch_dtype(self.plan.effective["dtype"]))
        return kernel.prepare(SiteSource(site, store, target, SharedTensors(site)))


_Call = Callable[[], object]


def _norm(contest: Contest, candidate: Candidate, kernel: Any, step: _Step) -> _Call:
    r = contest.request
    x = step.normal(step.tokens, r.size, dtype=r.dtype)
    weight = step.normal(r.size, dtype=r.dtype)
    if r.op == "norm.rms":
        return lambda: kernel(x, weight)
    residual = step.normal(step.tokens, r.size, dtype=r.dtype)
    return lambda: kernel(x, residual, weight)


def _linear(contest: Contest, candidate: Candidate, kernel: Any, step: _Step) -> _Call:
    r, packed = contest.request, step.packed(contest.site, kernel)
    inputs = r.in_features // (r.shards if r.sharding == "row" else 1)
    x_TC = step.normal(step.tokens, inputs, dtype=r.dtype)
    return lambda: kernel(x_TC, packed)


def _route(contest: Contest, candidate: Candidate, kernel: Any, step: _Step) -> _Call:
    r = contest.request
    logits_TX = step.normal(step.tokens, r.experts, dtype=r.dtype)
    bias = (step.normal(r.experts, dtype="fp32"),) if r.bias else ()
    return lambda: kernel(logits_TX, *bias)


def _experts(contest: Contest, candidate: Candidate, kernel: Any, step: _Step) -> _Call:
    import torch

    r, packed = contest.request, step.packed(contest.site, kernel)
    x_TC = step.normal(step.tokens, r.hidden, dtype=r.dtype)
    chosen = torch.rand(step.tokens, r.experts).topk(r.top_k).indices
    experts_TE = chosen.to(step.device.torch_device, torch.int32)
    weights_TE = torch.full_like(experts_TE, 1.0 / r.top_k, dtype=torch.float32)
    return lambda: kernel(x_TC, weights_TE, experts_TE, packed)


def _attention(contest: Contest, candidate: Candidate, kernel: Any, step: _Step) -> _Call:
    """Pages lie in a random order, as they do after a while."""
    import numpy as np
    import torch

    r, rows, target = contest.request, step.rows, step.device.torch_device
    length = step.context if step.case == "decode" else step.tokens
    width = -(-length // r.page_size)
    layout = candidate.layout(r) if candidate.layout else standard_layout(r)
    cache = kernel.allocate(layout, rows * width, target)
    pages = np.random.default_rng(0).permutation(rows * width).astype(np.int32)
    each = step.tokens // rows
    limits = AttentionLimits(max_rows=rows, max_tokens=step.tokens, max_context=length)
    metadata = AttentionMetadata(
        query_starts=np.arange(0, step.tokens + 1, each, dtype=np.int32),
        context_lens=np.full(rows, length, np.int32),
        page_table=pages.reshape(rows, width),
        slots=np.zeros(step.tokens, np.int64),
        decodes=rows if step.case == "decode" else 0,
        device_slots=torch.zeros(step.tokens, dtype=torch.int64).to(target),
        pin=step.device.pin,
    )
    plan = kernel.plan(metadata, kernel.buffers(limits, target))
    q_THD = step.normal(step.tokens, r.heads, r.head_dim, dtype=r.dtype)
    kv, out = q_THD[:, : r.kv_heads], torch.empty_like(q_THD[..., : r.out_dim])
    sinks_H = step.normal(r.heads, dtype=r.dtype) if r.sinks else None
    scales = torch.ones(2).to(target) if r.kv_scales else None
    return lambda: kernel.run(q_THD, kv, kv, cache, plan, out, sinks_H, scales)


_CALLS: dict[str, Callable[[Contest, Candidate, Any, _Step], _Call]] = {
    "norm.rms": _norm,
    "norm.add_rms": _norm,
    "linear": _linear,
    "moe.route": _route,
    "moe.experts": _experts,
    "attention": _attention,
}
