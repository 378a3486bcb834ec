"""Our engine in bf16, int8 and int4, and peers, in one run, on a random Qwen3-0.6B shape.

    python benchmarks/quantized.py --rounds 5 --model DIR --probe GEMV_LIMIT \\
        --peer 'llama.cpp Q8_0=python peer_llamacpp.py --model DIR --gguf FILE' --out FILE.json

Workloads A (one request) and B (16 at once) of `against_transformers.py`. Every round runs each of
our engines (a process each, loaded once) and each peer (a command whose last line is JSON,
{"results": {workload: {"decode_tok_s": ..., "out_tok_s": ...}}}), one after the other; medians over
rounds are compared. The probe prints "read_gb_s": NUMBER; it runs before every round.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from against_transformers import Pipe, make_checkpoint, make_prompts

import inferplane
from inferplane import LLM
from inferplane.cli.bench import measure

ENGINES = ("bf16", "int8", "int4")
TARGETS = {
    "A": ("decode_tok_s", {"int8": 1.35, "int4": 1.7}),
    "B": ("output_tok_s", {"int8": 0.9, "int4": 0.9}),
}


def work(name: str, folder: Path, threads: int) -> None:
    """One of our engines in a process of its own: a line of prompts in, a line of figures out."""
    llm = LLM(
        str(folder),
        device="cpu",
        dtype="bfloat16",
        quantization=None if name == "bf16" else name,
        max_model_len=2048,
        threads=threads,
        skip_tokenizer_init=True,
    )
    for line in sys.stdin:
        prompts, new = json.loads(line)
        print(json.dumps(measure(llm, prompts, new)), flush=True)


def peer(command: str) -> dict[str, dict[str, float]]:
    """Workload -> figures, of a command whose last line is JSON: {"results": {workload: {...}}}."""
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=True)
    return {
        workload: {"decode_tok_s": row["decode_tok_s"], "output_tok_s": row["out_tok_s"]}
        for workload, row in json.loads(done.stdout.splitlines()[-1])["results"].items()
    }


def probe(path: Path | None, threads: int) -> float | None:
    """GB/s that the machine's memory gives now."""
    if path is None:
        return None
    text = subprocess.run([path, str(threads)], capture_output=True, text=True).stdout
    return max(map(float, re.findall(r'"read_gb_s": ([\d.]+)', text)), default=None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", type=Path, help="checkpoint; default: made for the run")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--probe", type=Path, help="a program that prints GB/s")
    parser.add_argument("--worker", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.worker:
        work(args.worker, args.model, args.threads)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.model or Path(scratch) / "qwen3-0.6b-random"
        if not folder.exists():
            make_checkpoint(folder)
        report = run(folder, args)
    text = json.dumps(report, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


def run(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    threads = ["--model", str(folder), "--threads", str(args.threads)]
    engines = {n: Pipe([sys.executable, __file__, "--worker", n, *threads]) for n in ENGINES}
    peers = dict(text.split("=", 1) for text in args.peer)
    rows: dict[tuple[str, str], list[dict[str, float]]] = {}
    bandwidth = []
    for round_ in range(-1, args.rounds):  # the first one warms up
        bandwidth.append(probe(args.probe, args.threads))
        for workload in TARGETS:
            prompts, new = make_prompts(workload, round_)
            for name, engine in engines.items():
                row = engine(prompts, new)
                if round_ >= 0:
                    rows.setdefault((workload, name), []).append(row)
        if round_ >= 0:
            for name, command in peers.items():
                for workload, row in peer(command).items():
                    rows.setdefault((workload, name), []).append(row)
        print(f"# round {round_}: {bandwidth[-1]} GB/s, load {os.getloadavg()[0]:.1f}", flush=True)
    for engine in engines.values():
        engine.close()
    return {
        "what": "Qwen3-0.6B shape, random weights, greedy",
        "date": time.strftime("%Y-%m-%d"),
        "threads": args.threads,
        "rounds": args.rounds,
        "bandwidth_gb_s": bandwidth,
        "torch": torch.__version__,
        "inferplane": inferplane.__version__,
        "results": {w: summary(w, rows) for w in TARGETS},
    }


def summary(
    workload: str, rows: dict[tuple[str, str], list[dict[str, float]]]
) -> dict[str, dict[str, Any]]:
    key, targets = TARGETS[workload]
    medians = {
        name: {
            figure: round(statistics.median(row[figure] for row in found), 2)
            for figure in ("decode_tok_s", "output_tok_s")
        }
        for (of, name), found in rows.items()
        if of == workload
    }
    for name, figures in medians.items():
        figures["ratio_to_bf16"] = round(figures[key] / medians["bf16"][key], 2)
        if name in targets:
            figures["wanted"] = targets[name]
    print(f"# {workload}: {json.dumps(medians)}", flush=True)
    return medians


if __name__ == "__main__":
    main()
