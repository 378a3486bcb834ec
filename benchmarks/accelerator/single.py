"""One request at a time through the engine: how near decoding comes to the memory's bandwidth,
with and without graphs; how long loading and capturing take."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from .ceilings import ceilings
from .job import Job, NotRun, spread

WANTED = 0.75
"""Within 25 % of the limit."""
CAPTURE_SECONDS = 30.0
_PROFILED = 8  # steps


def run(job: Job) -> None:
    top = ceilings(job)["copy"]
    begin = time.perf_counter()
    llm = job.open(max_num_seqs=job.shapes.most_rows)
    llm.engine.executor.device.synchronize()
    weights = llm.plan.weight_bytes
    job.figure("load", seconds=time.perf_counter() - begin, weight_bytes=weights)
    job.figure("kernels", **kernels(llm.plan))
    with llm:
        runner = llm.engine.executor.runner
        if runner.graphs is None:
            why = llm.plan.effective.values["graphs"].source
            job.figure("capture", not_run=f"no graphs: {why}")
        else:
            _capture(job, llm)
        read = bytes_read(llm.plan)
        limit = top / read
        share = _decode(job, llm, "decode", limit, read)
        what = "decode of one request, of the memory-bandwidth limit"
        job.check(what, f">= {WANTED:.0%}", f"{share:.1%}", share >= WANTED)
        graphs, runner.graphs = runner.graphs, None
        if graphs is not None:
            _decode(job, llm, "decode without graphs", limit, read)
            _profile(job, llm, "profile without graphs")
            runner.graphs = graphs
        _profile(job, llm, "profile")


def kernels(plan: Any) -> dict[str, str]:
    """Op -> kernels that the model got."""
    found: dict[str, set[str]] = {}
    for choice in plan.resolution.choices.values():
        found.setdefault(choice.request.op, set()).add(choice.names)
    return {op: ", ".join(sorted(names)) for op, names in sorted(found.items())}


def bytes_read(plan: Any) -> int:
    """Of weights, for one token: all but the embedding, of which one row is read, unless the last
    projection is the same tensor."""
    needs = list(plan.root.needs())
    every = sum(need.bytes for need in needs if not need.tied_to)
    if any(need.tied_to for need in needs):
        return every
    looked_up = [
        need.bytes
        for site in plan.root.walk()
        if site.request is not None and site.request.op == "embedding"
        for need in site.weights
    ]
    return every - sum(looked_up)


def prompts_of(llm: Any, count: int, length: int, seed: int) -> list[list[int]]:
    rng = random.Random(seed)
    vocab = llm.plan.config.vocab
    return [[rng.randrange(vocab) for _ in range(length)] for _ in range(count)]


def _decode(job: Job, llm: Any, name: str, limit: float, read: int) -> float:
    """Gives the share of the limit."""
    from inferplane.cli.bench import measure

    length, new = job.shapes.single
    rows = []
    for at in range(job.shapes.repeats + 1):
        rows.append(measure(llm, prompts_of(llm, 1, length, at), new))
    rows = rows[1:]
    rate = statistics.median(row["decode_tok_s"] for row in rows)
    job.figure(
        name,
        share=rate / limit,
        tokens_per_s=rate,
        limit_tokens_per_s=limit,
        bytes_per_token=read,
        prompt=length,
        new=new,
        step_s=spread([row["itl_p50_s"] for row in rows]),
        first_token_s=spread([row["ttft_p50_s"] for row in rows]),
    )
    return rate / limit


class Stopwatch:
    """Stands before a function, and adds up how long it takes on the device."""

    def __init__(self, function: Callable[..., Any], synchronize: Callable[[], None]) -> None:
        self.function, self.synchronize = function, synchronize
        self.seconds: list[float] = []

    def __call__(self, *given: Any) -> Any:
        self.synchronize()
        begin = time.perf_counter()
        try:
            return self.function(*given)
        finally:
            self.synchronize()
            self.seconds.append(time.perf_counter() - begin)


def _capture(job: Job, llm: Any) -> None:
    """Meets every number of rows that has a graph, and times the captures."""
    from inferplane.cli.bench import measure

    executor = llm.engine.executor
    graphs, synchronize = executor.runner.graphs, executor.device.synchronize
    whole = graphs.capture = Stopwatch(graphs.capture, synchronize)
    recording = Stopwatch(graphs.backend.capture, synchronize)
    backend = graphs.backend
    graphs.backend = type("Timed", (), {"capture": staticmethod(recording)})()
    begin = time.perf_counter()
    for size in graphs.sizes:
        measure(llm, prompts_of(llm, size, 4, 1000 + size), 4)
    graphs.backend = backend
    del graphs.capture
    if graphs.failed:
        raise NotRun(f"a step was not captured: {graphs.failed}")
    total = sum(whole.seconds)
    job.figure(
        "capture",
        graphs=len(recording.seconds),
        rows=list(graphs.sizes),
        seconds=total,
        recording_s=sum(recording.seconds),
        slowest_s=max(whole.seconds),
        wall_s=time.perf_counter() - begin,
    )
    met = total < CAPTURE_SECONDS and len(recording.seconds) == len(graphs.sizes)
    found = f"{total:.1f} s for {len(recording.seconds)} of {len(graphs.sizes)} graphs"
    job.check("capture of all graphs", f"< {CAPTURE_SECONDS:.0f} s", found, met)


def _profile(job: Job, llm: Any, name: str) -> None:
    """Where a step's time goes, as torch's profiler sees it, in a text file."""
    from torch.profiler import profile, supported_activities

    from inferplane.cli.bench import measure

    prompt = prompts_of(llm, 1, job.shapes.single[0], 77)
    measure(llm, prompt, 4)
    try:
        with profile(activities=list(supported_activities())) as found:
            measure(llm, prompt, _PROFILED)
            llm.engine.executor.device.synchronize()
        averages = found.key_averages()
        key = "self_device_time_total"
        if not any(getattr(row, key, 0) for row in averages):
            key = "self_cpu_time_total"
        text = averages.table(sort_by=key, row_limit=40, max_name_column_width=70)
    except Exception as error:  # the profiler is no part of what is measured
        job.figure(name, not_run=f"{type(error).__name__}: {error}"[:300])
        return
    path = job.out / f"{job.part}-{name.replace(' ', '-')}.txt"
    path.write_text(f"{_PROFILED} tokens after a prompt of {len(prompt[0])}\n{text}\n")
    job.figure(name, file=path.name)
