"""One request at a time through the engine: how near decoding comes to the memory's bandwidth,
with and without graphs; how long loading and capturing take."""

from __future__ import annotations

import random
import statistics
import time
from typing import Any

from .captures import Captures
from .ceilings import ceilings
from .job import Job, spread

WANTED = 0.75
"""Within 25 % of the limit."""
CAPTURE_SECONDS = 30.0
_PROFILED = 8  # steps


def run(job: Job) -> None:
    top = ceilings(job)["copy"]
    with Captures() as captures:
        begin = time.perf_counter()
        llm = job.open(max_num_seqs=job.shapes.most_rows)
        llm.engine.executor.device.synchronize()
        loaded = time.perf_counter() - begin
        effective, weights = llm.plan.effective, llm.plan.weight_bytes
        warm = effective["warm_up"]
        job.figure("load", seconds=loaded, weight_bytes=weights, warm_up=warm)
        job.figure("kernels", **kernels(llm.plan))
        if llm.engine.executor.runner.graphs is not None:
            _capture(job, llm, captures)
        else:
            job.figure("capture", not_run=f"no graphs: {effective.values['graphs'].source}")
    with llm:
        runner = llm.engine.executor.runner
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


def _capture(job: Job, llm: Any, captures: Captures) -> None:
    """Meets every number of rows that has a graph and none yet."""
    from inferplane.cli.bench import measure

    graphs = llm.engine.executor.runner.graphs
    begin = time.perf_counter()
    for size in graphs.sizes:
        measure(llm, prompts_of(llm, size, 4, 1000 + size), 4)
    if graphs.failed:
        job.figure("capture", not_run=f"a step was not captured: {graphs.failed}")
        job.check("capture of all graphs", f"< {CAPTURE_SECONDS:.0f} s", graphs.failed, False)
        return
    found = captures.figures()
    wall = time.perf_counter() - begin
    job.figure("capture", **found, rows=list(graphs.sizes), wall_s=wall)
    met = found["seconds"] < CAPTURE_SECONDS and found["graphs"] == len(graphs.sizes)
    told = f"{found['seconds']:.1f} s for {found['graphs']} of {len(graphs.sizes)} graphs"
    job.check("capture of all graphs", f"< {CAPTURE_SECONDS:.0f} s", told, met)


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
