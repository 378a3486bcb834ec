"""Decode and prefill attention: our kernel, the other ones that this device has, torch's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .ceilings import ceilings
from .clock import Clock, graphs_of
from .job import Job, NotRun, spread
from .paged import RIGHT, Batch, Paged, Wrong, dense_of, draw, others, ours, request_of, right

DECODE_WANTED, PREFILL_WANTED = 0.85, 0.60


def run_decode(job: Job) -> None:
    sizes = [Size(f"decode of {b} at {s}", b, s, 1) for b, s in job.shapes.decode]
    _run(job, sizes, _bytes_of, ceilings(job)["copy"], DECODE_WANTED, "of the copy bandwidth")


def run_prefill(job: Job) -> None:
    sizes = [Size(f"prefill of {t}", 1, t, t) for t in job.shapes.prefill]
    _run(job, sizes, _operations_of, ceilings(job)["matmul"], PREFILL_WANTED, "of the matmul rate")


@dataclass(frozen=True)
class Size:
    """rows of `context` tokens, of which `new` are new."""

    name: str
    rows: int
    context: int
    new: int


@dataclass
class Bench:
    """One size on the device. work: bytes or operations of a call; top: the most a second."""

    job: Job
    size: Size
    plan: Any
    device: Any
    batch: Batch
    work: int
    top: float

    @classmethod
    def open(cls, job: Job, size: Size, work_of: Callable[[Batch], int], top: float) -> Bench:
        plan = job.plan()
        device = plan.catalog.device()
        device.activate()
        batch = draw(job, device, request_of(plan), size.rows, size.context, size.new)
        return cls(job, size, plan, device, batch, work_of(batch), top)

    @property
    def ours(self) -> Any:
        """The candidate that the product takes."""
        return ours(self.plan, self.batch.request, self.batch.tokens)

    def graph(self, capture: str = "all") -> Any:
        """Prompts take so long that launches do not count."""
        return graphs_of(self.plan) if self.size.new == 1 and capture != "none" else None

    def figure(self, who: str, calls: list[Any], graph: Any, **more: Any) -> float:
        """Gives the share of the ceiling."""
        clock = Clock(self.device)
        found = spread(clock.times(calls, self.job.shapes.seconds, graph))
        share = self.work / found["median"] / self.top
        kind = {"timed_by": clock.source, "graph": graph is not None, "sets": self.batch.sets}
        self.job.figure(
            f"{self.size.name}: {who}",
            share=share,
            work=self.work,
            seconds=found,
            **kind,
            **more,
        )
        return share

    def not_run(self, who: str, why: str) -> None:
        self.job.figure(f"{self.size.name}: {who}", not_run=why)

    def kernel(self, candidate: Any) -> float:
        """Checks, then times."""
        paged = Paged(candidate, self.batch, self.device)
        error = paged.error()
        page = self.batch.request.page_size
        graph = self.graph(candidate.capture)
        return self.figure(candidate.name, paged.calls, graph, error=error, page=page)


def _run(
    job: Job,
    sizes: Sequence[Size],
    work_of: Callable[[Batch], int],
    top: float,
    wanted: float,
    of: str,
) -> None:
    """Ours in every size first; then torch's, and the other kernels, which may have much to
    compile: nothing that they break reaches ours."""
    import torch

    def benches() -> Iterator[Bench]:
        return (Bench.open(job, size, work_of, top) for size in sizes)

    with torch.inference_mode():
        for bench in benches():
            share = bench.kernel(bench.ours)
            if bench.size is sizes[0]:
                what = f"{bench.size.name}, {of}"
                job.check(what, f">= {wanted:.0%}", f"{share:.1%}", share >= wanted)
        for bench in benches():
            _beside(bench)
        for bench in benches():
            _others(bench)


def _others(bench: Bench) -> None:
    """Whatever a kernel raises is told, and stops nothing."""
    for other, candidate, why in others(bench.plan, bench.batch.request, bench.ours):
        if candidate is None:
            bench.not_run(other, why)
            continue
        try:
            bench.kernel(candidate)
        except Exception as error:
            bench.not_run(other, _told(error))


def _bytes_of(batch: Batch) -> int:
    """Keys and values read once, queries read, results written."""
    r = batch.request
    cached = batch.rows * batch.context * 2 * r.kv_heads * r.head_dim
    other = 2 * batch.tokens * r.heads * r.head_dim
    return (cached + other) * batch.wire.element_size()


def _operations_of(batch: Batch) -> int:
    """Two products of T x T x D for each head, half of which a causal mask leaves."""
    r = batch.request
    return 4 * batch.tokens**2 // 2 * r.heads * r.head_dim


def _beside(bench: Bench) -> None:
    """torch's scaled_dot_product_attention over dense keys and values, grouped heads."""
    batch = bench.batch
    dense = [dense_of(batch, at) for at in range(batch.sets)]
    for backend in ("FLASH_ATTENTION", "CUDNN_ATTENTION", ""):
        who = f"torch {backend.lower() or 'sdpa'}"
        try:
            calls = [_sdpa(backend, *qkv, batch.new > 1) for qkv in dense]
            error = _error(calls[0](), right(batch, 0))
            if not error <= RIGHT:
                raise Wrong(f"its results are wrong: the relative error is {error:.2g}")
            try:
                bench.figure(who, calls, bench.graph(), error=error)
            except RuntimeError as reason:  # it cannot be captured
                bench.figure(who, calls, None, error=error, without_graph=_told(reason))
        except Exception as error:
            bench.not_run(who, _told(error))


def _sdpa(backend: str, q: Any, k: Any, v: Any, causal: bool) -> Callable[[], Any]:
    from contextlib import nullcontext

    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    one = getattr(SDPBackend, backend) if backend else None

    def call() -> Any:
        with sdpa_kernel(one) if one is not None else nullcontext():
            return scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)

    return call


def _error(found_BHTD: Any, right_THD: Any) -> float:
    import torch

    found = found_BHTD.transpose(1, 2).reshape(right_THD.shape).float()
    norm = torch.linalg.vector_norm
    return float(norm(found - right_THD) / norm(right_THD))


def _told(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else ""
    return text if isinstance(error, NotRun | Wrong) else f"{type(error).__name__}: {text}"[:500]
