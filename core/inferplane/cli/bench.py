"""`inferplane bench`."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import typer

from .options import ENGINE, with_settings

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
@with_settings(*ENGINE)
def bench(
    model: str = typer.Argument(..., metavar="MODEL", help="Folder, bundled name or hub name."),
    requests: int = typer.Option(16, "--requests", min=1, help="Requests that arrive at once."),
    prompt_tokens: int = typer.Option(128, "--prompt-tokens", min=1),
    output_tokens: int = typer.Option(64, "--output-tokens", min=1),
    shared_tokens: int = typer.Option(0, "--shared-tokens", min=0, help="Common prefix."),
    repeats: int = typer.Option(3, "--repeats", min=1, help="The median is reported."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
    flags: Any = None,
    config: Any = None,
) -> None:
    """Measure throughput, time to first token and inter-token time on random prompts."""
    from .model import open_llm
    from .show import console, table

    rng = random.Random(0)
    with open_llm(model, flags, config, skip_tokenizer_init=True) as llm:
        vocab = llm.plan.config.vocab
        runs = []
        for _ in range(repeats + 1):
            shared = [rng.randrange(vocab) for _ in range(shared_tokens)]
            prompts = [
                shared + [rng.randrange(vocab) for _ in range(prompt_tokens)]
                for _ in range(requests)
            ]
            runs.append(measure(llm, prompts, output_tokens))
    best = sorted(runs[1:], key=lambda run: run["wall_s"])[len(runs[1:]) // 2]
    result = {
        "model": llm.plan.model_name,
        "device": llm.plan.catalog.props.name,
        "dtype": llm.plan.effective["dtype"],
        "requests": requests,
        "prompt_tokens": shared_tokens + prompt_tokens,
        "output_tokens": output_tokens,
        "repeats": repeats,
        **best,
    }
    if as_json:
        print(json.dumps(result, indent=2))
        return
    shown = table("measure", "value")
    for name, value in result.items():
        shown.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    console().print(shown)


def measure(llm: Any, prompts: list[list[int]], output_tokens: int) -> dict[str, float]:
    """One run: all prompts arrive at once. Times in seconds."""
    from inferplane import SamplingParams

    params = SamplingParams(temperature=0.0, max_tokens=output_tokens, ignore_eos=True)
    made = [
        llm.requests.make(str(i), {"prompt_token_ids": p}, params) for i, p in enumerate(prompts)
    ]
    begin = time.perf_counter()
    for _, parts in made:
        llm.engine.add(parts[0])
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    gaps: list[float] = []
    tokens = 0
    while llm.engine.unfinished:
        outputs = llm.engine.step()
        now = time.perf_counter() - begin
        for output in outputs:
            count = len(output.tokens)
            tokens += count
            if count and output.id in last:
                gaps += [(now - last[output.id]) / count] * count
            first.setdefault(output.id, now)
            last[output.id] = now
    wall = time.perf_counter() - begin
    started = max(first.values())
    after = tokens - sum(1 for _ in first)
    return {
        "wall_s": wall,
        "output_tok_s": tokens / wall,
        "total_tok_s": (tokens + sum(map(len, prompts))) / wall,
        "decode_tok_s": after / (wall - started) if wall > started and after else 0.0,
        "ttft_p50_s": _percentile(list(first.values()), 50),
        "ttft_p99_s": _percentile(list(first.values()), 99),
        "itl_p50_s": _percentile(gaps, 50),
        "itl_p99_s": _percentile(gaps, 99),
    }


def _percentile(values: list[float], percent: int) -> float:
    values = sorted(values)
    return values[min(len(values) - 1, len(values) * percent // 100)] if values else 0.0
