"""Right before fast: sums of the bundled models, and greedy tokens against the CPU's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

from .job import Job

MODELS = ("tiny-arithmetic", "tiny-arithmetic-moe")
ACCURACY, TRIAL_ACCURACY = 0.98, 0.8
_NEW = 24


def run_accuracy(job: Job) -> None:
    wanted = TRIAL_ACCURACY if job.small else ACCURACY
    line = [sys.executable, "-m", "inferplane.cli.main", "eval", "arithmetic"]
    for model in MODELS:
        asked = ["--model", model, "--questions", str(job.shapes.questions)]
        done = subprocess.run(
            [*line, "--device", job.device, "--json", *asked],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found = json.loads(done.stdout)
        job.figure(model, **found)
        share = found["accuracy"]
        job.check(f"{model}: right sums", f">= {wanted:.0%}", f"{share:.2%}", share >= wanted)


def run_parity(job: Job) -> None:
    """fp32 on both, with no shortcut of the matrix units."""
    import torch

    from inferplane.testing.arithmetic import evaluation_set

    torch.set_float32_matmul_precision("highest")
    asked = [prompt for prompt, _ in evaluation_set(job.shapes.prompts)]
    for model in MODELS:
        ours = _greedy(model, job.device, asked)
        right = _greedy(model, "cpu", asked)
        differ = [at for at, (a, b) in enumerate(zip(ours, right, strict=True)) if a != b]
        first = {}
        if differ:
            at = differ[0]
            first = {"prompt": asked[at][-60:], "found": ours[at], "right": right[at]}
        job.figure(model, prompts=len(asked), tokens=sum(map(len, right)), differ=differ, **first)
        same = f"{len(asked) - len(differ)} of {len(asked)}"
        job.check(f"{model}: prompts with the CPU's tokens", "all", same, not differ)


def _greedy(model: str, device: str, asked: Sequence[str]) -> list[list[int]]:
    from inferplane import LLM, SamplingParams

    params = SamplingParams(temperature=0.0, max_tokens=_NEW, ignore_eos=True)
    with LLM(model, device=device, dtype="float32", max_num_seqs=16) as llm:
        outputs = llm.generate(list(asked), params)
        llm.check_invariants()
    return [output.outputs[0].token_ids for output in outputs]
