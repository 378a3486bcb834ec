"""`inferplane generate`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import typer

from .options import ENGINE, with_settings

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
@with_settings(*ENGINE)
def generate(
    model: str = typer.Argument(..., metavar="MODEL", help="Folder, bundled name or hub name."),
    prompt: str | None = typer.Argument(
        None,
        metavar="PROMPT",
        help="The prompt; - reads it from standard input.",
    ),
    file: Path | None = typer.Option(None, "--file", help="A prompt a line; answers all at once."),
    chat: bool = typer.Option(False, "--chat", help="Use the model's chat template."),
    max_tokens: int = typer.Option(256, "--max-tokens", help="Tokens to generate at most."),
    temperature: float = typer.Option(0.0, "--temperature", help="0 is greedy."),
    top_p: float = typer.Option(1.0, "--top-p"),
    top_k: int = typer.Option(0, "--top-k"),
    as_json: bool = typer.Option(False, "--json", help="Print a JSON line an answer."),
    flags: Any = None,
    config: Any = None,
) -> None:
    """Answer one prompt, streaming, or every line of a file."""
    from inferplane.errors import UserError

    if (prompt is None) == (file is None):
        raise UserError("give a prompt, or --file with a prompt a line")
    from inferplane import SamplingParams

    from .model import open_llm

    params = SamplingParams(
        max_tokens=max_tokens, temperature=temperature, top_p=top_p, top_k=top_k
    )
    prompts = _prompts(prompt, file)
    with open_llm(model, flags, config) as llm:
        asked = [_ask(llm, text, chat) for text in prompts]
        if file is None and not as_json:
            for delta in llm.stream(asked[0], params):
                sys.stdout.write(delta.text)
                sys.stdout.flush()
            print()
            return
        for text, output in zip(prompts, llm.generate(asked, params), strict=True):
            answer = output.outputs[0]
            if as_json:
                row = {"prompt": text, "text": answer.text, "finish_reason": answer.finish_reason}
                print(json.dumps(row, ensure_ascii=False))
            else:
                print(f"{text}{answer.text}")


def _prompts(prompt: str | None, file: Path | None) -> list[str]:
    from inferplane.errors import UserError

    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--file {file}: {error}") from None
        found = [line for line in lines if line.strip()]
        if not found:
            raise UserError(f"--file {file} has no prompt")
        return found
    return [sys.stdin.read().removesuffix("\n") if prompt == "-" else str(prompt)]


def _ask(llm: Any, text: str, chat: bool) -> Any:
    if not chat:
        return text
    rendered = llm.tokenizer.chat([{"role": "user", "content": text}])
    return {"prompt_token_ids": llm.tokenizer.encode(rendered, special=False)}
