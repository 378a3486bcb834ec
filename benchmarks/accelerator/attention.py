"""Decode and prefill attention: our kernel, the other ones that this device has, torch's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .ceilings import ceilings
from .clock import Clock, graphs_of
from .job import Job, NotRun, spread
from .paged import RIGHT, Batch, Paged, dense_of, draw, others, ours, request_of, right

DECODE_WANTED, PREFILL_WANTED = 0.85, 0.60


def run_decode(job: Job) -> None:
    top = ceilings(job)["copy"]
    for rows, context in job.shapes.decode:
        name = f"decode of {rows} at {context}"
        share = _measure(job, name, rows, context, 1, _bytes_of, top)
        if (rows, context) == job.shapes.decode[0]:
            _verdict(job, f"{name}, of the copy bandwidth", share, DECODE_WANTED)


def run_prefill(job: Job) -> None:
    top = ceilings(job)["matmul"]
    for tokens in job.shapes.prefill:
        name = f"prefill of {tokens}"
        share = _measure(job, name, 1, tokens, tokens, _operations_of, top)
        if tokens == job.shapes.prefill[0]:
            _verdict(job, f"{name}, of the matmul rate", share, PREFILL_WANTED)


def _verdict(job: Job, what: str, share: float, wanted: float) -> None:
    job.check(what, f">= {wanted:.0%}", f"{share:.1%}", share >= wanted)


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


def _measure(
    job: Job,
    name: str,
    rows: int,
    context: int,
    new: int,
    work_of: Callable[[Batch], int],
    top: float,
) -> float:
    """Figures of every kernel for one size. Gives our share of the ceiling."""
    import torch

    plan = job.plan()
    device = plan.catalog.device()
    device.activate()
    request = request_of(plan)
    clock = Clock(device)
    graph = graphs_of(plan) if new == 1 else None
    with torch.inference_mode():
        batch = draw(job, device, request, rows, context, new)
        taken = ours(plan, request, batch.tokens)
        work = work_of(batch)

        def figure(who: str, calls: list[Any], graph: Any, **more: Any) -> float:
            found = spread(clock.times(calls, job.shapes.seconds, graph))
            share = work / found["median"] / top
            kind = {"timed_by": clock.source, "graph": graph is not None, "sets": batch.sets}
            job.figure(f"{name}: {who}", share=share, work=work, seconds=found, **kind, **more)
            return share

        paged = Paged(taken, batch, device)
        error = paged.error()
        graph = graph if taken.capture != "none" else None
        share = figure(taken.name, paged.calls, graph, error=error, page=request.page_size)
        del paged
        _beside(job, name, figure, batch, device, graph)
        for other, candidate, why in others(plan, request, taken):
            if candidate is None:
                job.figure(f"{name}: {other}", not_run=why)
                continue
            _other(job, name, figure, batch, device, candidate, graph)
    return share


def _other(
    job: Job, name: str, figure: Any, batch: Batch, device: Any, candidate: Any, graph: Any
) -> None:
    """Another kernel of this device. Whatever it raises is told, and stops nothing."""
    try:
        paged = Paged(candidate, batch, device)
        error = paged.error()
        figure(
            candidate.name,
            paged.calls,
            graph if candidate.capture != "none" else None,
            error=error,
        )
    except Exception as error:
        job.figure(f"{name}: {candidate.name}", not_run=_told(error))


def _beside(job: Job, name: str, figure: Any, batch: Batch, device: Any, graph: Any) -> None:
    """torch's scaled_dot_product_attention over dense keys and values, grouped heads."""
    dense = [dense_of(batch, at) for at in range(batch.sets)]
    for backend in ("FLASH_ATTENTION", "CUDNN_ATTENTION", ""):
        who = f"torch {backend.lower() or 'sdpa'}"
        try:
            calls = [_sdpa(backend, *qkv, batch.new > 1) for qkv in dense]
            error = _error(calls[0](), right(batch, 0))
            if not error <= RIGHT:
                raise NotRun(f"its results are wrong: the relative error is {error:.2g}")
            try:
                figure(who, calls, graph, error=error)
            except RuntimeError as reason:  # it cannot be captured
                figure(who, calls, None, error=error, without_graph=_told(reason))
        except Exception as error:
            job.figure(f"{name}: {who}", not_run=_told(error))


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
    return text if isinstance(error, NotRun) else f"{type(error).__name__}: {text}"[:500]
