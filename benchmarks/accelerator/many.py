"""Many requests at once: our engine, and the continuous batching of `transformers` on a model of
the same shape. Each in a process of its own, one after the other; medians are compared."""

from __future__ import annotations

import random
import statistics
import time
from typing import Any

from .captures import Captures
from .job import Job, NotRun, read, spread
from .single import prompts_of

RATIO = 3.0


def run_ours(job: Job) -> None:
    from inferplane.cli.bench import measure

    count, length, new = job.shapes.many
    most = -(-(length + new + 1) // 256) * 256
    rows = []
    with Captures() as captures:
        begin = time.perf_counter()
        llm = job.open(max_num_seqs=count, max_model_len=most)
        loaded = time.perf_counter() - begin
        with llm:
            for at in range(job.shapes.repeats + 1):
                rows.append(measure(llm, prompts_of(llm, count, length, at), new))
                if at and job.left < 2 * rows[-1]["wall_s"]:
                    break
            preempted = llm.engine.scheduler.preemptions
    first, rows = rows[0], rows[1:]
    job.figure(
        "default settings",
        output_tokens_per_s=statistics.median(row["output_tok_s"] for row in rows),
        seconds=spread([row["wall_s"] for row in rows]),
        first_token_p50_s=spread([row["ttft_p50_s"] for row in rows]),
        between_tokens_p50_s=spread([row["itl_p50_s"] for row in rows]),
        warm_up_s=first["wall_s"],
        requests=count,
        prompt=length,
        new=new,
        preemptions=preempted,
        step_tokens=llm.plan.effective["max_num_batched_tokens"],
        load_s=loaded,
        captures=captures.figures(),
    )


def run_theirs(job: Job) -> None:
    count, length, new = job.shapes.many
    wanted = f"{count} requests, ours to transformers"
    generate = _open_theirs(job, new)
    vocab = job.shapes.model["vocab_size"]
    seconds = []
    for at in range(job.shapes.repeats + 1):
        rng = random.Random(f"transformers/{at}")
        prompts = [[rng.randrange(vocab) for _ in range(length)] for _ in range(count)]
        begin = time.perf_counter()
        found = generate(prompts)
        wall = time.perf_counter() - begin
        wrong = [r for r in found.values() if r.error or len(r.generated_tokens) != new]
        if len(found) != count or wrong:
            reason = wrong[0].error if wrong else "requests are missing"
            raise NotRun(f"transformers finished {len(found) - len(wrong)} of {count}: {reason}")
        if at:
            seconds.append(wall)
        job.figure("warm-up" if not at else f"run {at}", seconds=wall)
        if at and job.left < 2 * wall:
            break
    rate = count * new / statistics.median(seconds)
    job.figure(
        "continuous batching",
        output_tokens_per_s=rate,
        seconds=spread(seconds),
        requests=count,
        prompt=length,
        new=new,
    )
    mine = read(job.out / "many.json")
    rows = mine["figures"] if mine else {}
    if "default settings" not in rows:
        job.check(wanted, f">= {RATIO:g}x", "ours was not measured", False)
        return
    ratio = rows["default settings"]["output_tokens_per_s"] / rate
    job.check(wanted, f">= {RATIO:g}x", f"{ratio:.2f}x", ratio >= RATIO)


def _open_theirs(job: Job, new: int) -> Any:
    """A function from prompts to results, over a model with random weights on the device. The
    manager stays, so that its cache and graphs are made once, in the run that warms up."""
    try:
        from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
    except ImportError as error:
        raise NotRun(f"transformers is not installed ({error})") from error
    import torch

    plan = job.plan()
    device = plan.catalog.device()
    device.activate()
    config = AutoConfig.from_pretrained(job.model)
    with device.torch_device:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    model.requires_grad_(False)  # inference mode does not reach the thread that generates
    if not hasattr(model, "generate_batch"):
        raise NotRun("this version of transformers has no generate_batch")
    settings = GenerationConfig(
        max_new_tokens=new, do_sample=False, eos_token_id=-1, pad_token_id=0
    )

    more: dict[str, Any] = {}
    if job.small:  # by default it takes nearly all the memory that is free
        from transformers import ContinuousBatchingConfig

        more["continuous_batching_config"] = ContinuousBatchingConfig(
            num_blocks=16, max_batch_tokens=256
        )

    def generate(prompts: list[list[int]]) -> Any:
        return model.generate_batch(
            prompts, generation_config=settings, persistent_manager=True, **more
        )

    return generate
