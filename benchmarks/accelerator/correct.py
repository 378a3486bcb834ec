"""Right before fast: sums of the bundled models, greedy tokens against the CPU's, the conformance
kit's certificate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from .job import Job, NotRun, read

MODELS = ("tiny-arithmetic", "tiny-arithmetic-moe")
ACCURACY, TRIAL_ACCURACY = 0.98, 0.8
_NEW = 24


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "inferplane.cli.main", *arguments]


def run_accuracy(job: Job) -> None:
    wanted = TRIAL_ACCURACY if job.small else ACCURACY
    for model in MODELS:
        asked = ["--model", model, "--questions", str(job.shapes.questions)]
        done = subprocess.run(
            command("eval", "arithmetic", "--device", job.device, "--json", *asked),
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


def run_conformance(job: Job) -> None:
    path = job.out / "certificate.json"
    base = ["conformance", "--device", job.device, "--draws", str(job.draws)]
    if job.small:
        base += ["--op", "norm.rms"]
    else:
        _warm(job, base)
    done = subprocess.run(command(*base, "--json", str(path)), check=False)
    found = read(path)
    if found is None:
        raise NotRun(f"the kit ended with {done.returncode} and wrote no certificate")
    rows = found["results"]
    job.about["complete"] = found["complete"]
    for row in rows:
        kept = ("level", "passed", "refused", "failed", "not_run", "largest_error")
        job.figure(f"{row['op']} {row['candidate']}", **{name: row[name] for name in kept})
    failed = sum(row["failed"] for row in rows)
    passed = sum(row["passed"] for row in rows)
    told = f"{failed} failed, {passed} passed, {job.draws} draws"
    job.check("conformance", "0 failed", told, not failed and passed > 0)


def _warm(job: Job, base: list[str]) -> None:
    """The kit by kernel, in parallel: most of its time goes into compiling, whose results are kept
    on disk for the run that writes the certificate. What each says is in a file of its own."""
    folder = job.out / "conformance"
    folder.mkdir(exist_ok=True)
    listed = folder / "cases.json"
    answers = ["conformance", "--device", job.device, "--level", "V0", "--json", str(listed)]
    subprocess.run(command(*answers), check=True)
    rows = sorted(json.loads(listed.read_text())["results"], key=lambda row: -row["not_run"])
    kernels = [row for row in rows if row["kind"] in ("op", "block") and row["not_run"]]

    def one(row: dict[str, Any]) -> None:
        some = [*base, "--op", row["op"], "--candidate", row["candidate"]]
        text = folder / f"{row['candidate']}.{row['op']}.txt"
        with text.open("w", encoding="utf-8") as log:
            subprocess.run(command(*some), stdout=log, stderr=log, check=False)

    with ThreadPoolExecutor(processes()) as pool:
        list(pool.map(one, kernels))
    failed = [p.name for p in sorted(folder.glob("*.txt")) if _failed(p)]
    job.figure("by kernel, in parallel", kernels=len(kernels), failed=failed)


def _failed(path: Path) -> bool:
    return " 0 failed" not in path.read_text(encoding="utf-8")


def processes() -> int:
    """That may compile at a time."""
    return max(1, min(12, (os.cpu_count() or 2) - 2))
