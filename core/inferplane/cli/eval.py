"""`inferplane eval`."""

from __future__ import annotations

import json
import time
from typing import Any

import typer

from .options import ENGINE, with_settings

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def evaluations() -> None:
    """Measure a model's accuracy."""


@app.command()
@with_settings(*ENGINE)
def arithmetic(
    model: str = typer.Option("tiny-arithmetic", "--model", help="Folder or name."),
    questions: int = typer.Option(2000, "--questions", min=2, help="Held-out questions."),
    at_least: float = typer.Option(0.0, "--at-least", help="End with 1 below this share."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
    flags: Any = None,
    config: Any = None,
) -> None:
    """Ask held-out sums, half of them after 40 to 60 solved ones, and count right answers."""
    from inferplane import SamplingParams
    from inferplane.testing.arithmetic import evaluation_set, is_right

    from .model import open_llm
    from .show import console, table

    llm = open_llm(model, flags, config)
    asked = evaluation_set(questions)
    begin = time.perf_counter()
    with llm:
        params = SamplingParams(temperature=0.0, max_tokens=8, stop=("\n",))
        outputs = llm.generate([prompt for prompt, _ in asked], params)
        llm.check_invariants()
    seconds = time.perf_counter() - begin
    rows: list[dict[str, Any]] = []
    for name, long in (("without examples", False), ("after 40 to 60 examples", True)):
        pairs = [(o, a) for (p, a), o in zip(asked, outputs, strict=True) if ("\n" in p) == long]
        right = sum(is_right(o.outputs[0].text, answer) for o, answer in pairs)
        tokens = sum(len(o.prompt_token_ids) for o, _ in pairs)
        rows.append({"prompts": name, "right": right, "of": len(pairs), "prompt_tokens": tokens})
    right, total = sum(r["right"] for r in rows), sum(r["of"] for r in rows)
    result = {
        "model": llm.plan.model_name,
        "device": llm.plan.catalog.props.name,
        "dtype": llm.plan.effective["dtype"],
        "quantization": llm.plan.effective["quantization"],
        "accuracy": right / total,
        "right": right,
        "of": total,
        "seconds": seconds,
        "preemptions": llm.engine.scheduler.preemptions,
        "parts": rows,
    }
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        shown = table("prompts", "right", "of", "accuracy", "prompt tokens")
        whole = {"prompts": "all", "right": right, "of": total, "prompt_tokens": "–"}
        for row in [*rows, whole]:
            share = f"{row['right'] / row['of']:.2%}"
            cells = [row["prompts"], row["right"], row["of"], share, row["prompt_tokens"]]
            shown.add_row(*map(str, cells))
        console().print(shown)
        numbers = " ".join(filter(None, (result["dtype"], result["quantization"])))
        console().print(f"{numbers} on {result['device']}, {seconds:.1f} s")
    if right / total < at_least:
        raise typer.Exit(1)
