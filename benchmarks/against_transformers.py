"""Our engine and `transformers` generate, in one run, on a random checkpoint like Qwen3-0.6B.

    python benchmarks/against_transformers.py --threads 2 --out benchmarks/results/FILE.json

Workloads: A one request (prompt 128, 64 new tokens); B 16 requests at once (128, 64); C 16 requests
that share a 512-token prefix (32 of their own, 16 new). Greedy, end of text ignored. Each engine
has a process of its own and they take turns; prompts change with every repetition; medians are
compared.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, GenerationConfig, Qwen3Config, StoppingCriteria

import inferplane
from inferplane import LLM
from inferplane.cli.bench import measure

SHAPE = {
    "vocab_size": 151936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": True,
}
WORKLOADS = {"A": (1, 0, 128, 64), "B": (16, 0, 128, 64), "C": (16, 512, 32, 16)}
ENGINES = ("inferplane", "transformers")
TARGETS = {"A": ("decode_tok_s", 2.0), "B": ("output_tok_s", 2.0), "C": ("output_tok_s", 8.0)}


def make_checkpoint(folder: Path) -> None:
    torch.manual_seed(0)
    config = Qwen3Config(**SHAPE, dtype="bfloat16")
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)


def make_prompts(workload: str, repetition: int) -> tuple[list[list[int]], int]:
    count, shared, own, new = WORKLOADS[workload]
    rng = random.Random(f"{workload}/{repetition}")
    prefix = [rng.randrange(16, SHAPE["vocab_size"]) for _ in range(shared)]
    return [
        prefix + [rng.randrange(16, SHAPE["vocab_size"]) for _ in range(own)] for _ in range(count)
    ], new


class Clock(StoppingCriteria):
    """Stops nothing; notes when each step ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
        self.times.append(time.perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool)


def theirs(model: torch.nn.Module) -> Callable[[list[list[int]], int], dict[str, float]]:
    @torch.inference_mode()
    def run(prompts: list[list[int]], new: int) -> dict[str, float]:
        ids = torch.tensor(prompts)
        config = GenerationConfig(
            max_new_tokens=new, do_sample=False, eos_token_id=None, pad_token_id=0
        )
        clock = Clock()
        begin = time.perf_counter()
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            generation_config=config,
            stopping_criteria=[clock],
        )
        wall = clock.times[-1] - begin
        first = clock.times[0] - begin
        return {
            "wall_s": wall,
            "output_tok_s": len(prompts) * new / wall,
            "decode_tok_s": len(prompts) * (new - 1) / (wall - first),
            "ttft_p50_s": first,
        }

    return run


def ours(llm: LLM) -> Callable[[list[list[int]], int], dict[str, float]]:
    return lambda prompts, new: measure(llm, prompts, new)


def work(name: str, folder: Path, threads: int) -> None:
    """One engine in a process of its own: a line of prompts in, a line of figures out."""
    torch.set_num_threads(threads)
    if name == "inferplane":
        llm = LLM(
            str(folder),
            device="cpu",
            dtype="bfloat16",
            max_model_len=2048,
            threads=threads,
            skip_tokenizer_init=True,
        )
        engine = ours(llm)
    else:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
        engine = theirs(model.eval())
    for line in sys.stdin:
        prompts, new = json.loads(line)
        print(json.dumps(engine(prompts, new)), flush=True)


class Pipe:
    """The other end of `work`: a process that answers a line with a line."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, prompts: list[list[int]], new: int) -> dict[str, float]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps([prompts, new]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workloads", default="A,B,C")
    parser.add_argument("--model", type=Path, help="checkpoint; default: made for the run")
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
        options = ["--model", str(folder), "--threads", str(args.threads)]
        worker = [sys.executable, __file__, "--worker"]
        engines = {name: Pipe([*worker, name, *options]) for name in ENGINES}
        results = run(engines, args.workloads.split(","), args.repeats)
        for engine in engines.values():
            engine.close()
    report = {
        "what": "Qwen3-0.6B shape, random bf16 weights, greedy",
        "date": time.strftime("%Y-%m-%d"),
        "threads": args.threads,
        "repeats": args.repeats,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "inferplane": inferplane.__version__,
        "results": results,
    }
    text = json.dumps(report, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


def run(
    engines: dict[str, Pipe],
    workloads: list[str],
    repeats: int,
) -> dict[str, dict]:
    results: dict[str, dict] = {}
    for workload in workloads:
        rows: dict[str, list[dict[str, float]]] = {name: [] for name in engines}
        for repetition in range(-1, repeats):  # the first one warms up
            prompts, new = make_prompts(workload, repetition)
            for name, engine in engines.items():
                row = engine(prompts, new)
                if repetition >= 0:
                    rows[name].append(row)
        medians = {
            name: {key: round(statistics.median(r[key] for r in found), 4) for key in found[0]}
            for name, found in rows.items()
        }
        results[workload] = medians
        key, target = TARGETS[workload]
        ratio = medians["inferplane"][key] / medians["transformers"][key]
        results[workload]["ratio"] = {"of": key, "value": round(ratio, 2), "target": target}
        print(f"# {workload}: {json.dumps(results[workload])}", flush=True)
    return results


if __name__ == "__main__":
    main()
