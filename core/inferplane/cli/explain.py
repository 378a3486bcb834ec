"""`inferplane explain`."""

from __future__ import annotations

import json
from typing import Any

import typer

from .options import ENGINE, with_settings

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
@with_settings(*ENGINE)
def explain(
    model_name: str | None = typer.Argument(None, metavar="[MODEL]", help="Folder or name."),
    model: str | None = typer.Option(None, "--model", help="The same as MODEL."),
    target: str | None = typer.Option(None, "--target", help="Plan for this device profile."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
    flags: Any = None,
    config: Any = None,
) -> None:
    """Show which kernel serves each op, why not the others, and what fits into memory."""
    from inferplane.planning.plan import make_plan
    from inferplane.planning.report import report
    from inferplane.settings import load_settings

    given = {**flags, "model": model_name or model, "target": target}
    settings, sources = load_settings(given, config)
    found = report(make_plan(settings, sources))
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _print(found)


def _print(found: dict[str, Any]) -> None:
    from rich.markup import escape

    from .show import console, size, table

    out = console()
    platform, memory = found["platform"], found["memory"]
    planning = "planning for" if platform["planning"] else "on"
    out.print(
        f"[bold]platform[/]  {platform['name']} {platform['version']} (contract "
        f"{platform['contract']}), {planning} {platform['device']}: {platform['reason']}"
    )
    if found["quantization"]:
        schemes = [f"{n} ({count})" for n, count in found["quantization"]["schemes"].items()]
        out.print(
            f"[bold]quantized[/] {escape(found['quantization']['format'])}: "
            f"{', '.join(schemes) or 'no module'}"
        )
    extra = memory["packed_copies_bytes"]
    copies = f", packed copies {size(extra)}" if extra else ""
    out.print(
        f"[bold]weights[/]   {size(memory['weight_bytes'])}{copies}      "
        f"[bold]KV[/]  {size(memory['kv_bytes_per_token'])} a token      "
        f"[bold]fits[/]  {memory['kv_tokens']:,} tokens ({memory['source']})\n"
    )
    out.print(_groups(found["groups"]))
    out.print()
    shown = table("op", "request", "sites", "kernel", "level", "verified", "why not the others")
    for row in found["ops"]:
        others = "\n".join(f"{r['kernel']}: {r['reason']}" for r in row["rejected"]) or "–"
        others = escape(others)  # reasons may name extras: pip install 'x[y]'
        shown.add_row(
            row["op"],
            row["request"],
            str(row["sites"]),
            row["kernel"],
            row["level"],
            row["verified"],
            others,
        )
    out.print(shown)
    settings = table("setting", "value", "from")
    for name, item in found["settings"].items():
        settings.add_row(name, str(item["value"]), item["source"])
    out.print("\n", settings, sep="")
    for warning in found["warnings"]:
        out.print(f"[bold]warning[/]  {warning}")


def _groups(groups: list[dict[str, Any]]) -> Any:
    """What each KV group has. One with a window needs pages for windows only."""
    from .show import size, table

    shown = table("KV group", "layers", "window", "page", "layout", "pages", "tokens", "memory")
    for group in groups:
        shown.add_row(
            group["name"],
            str(group["layers"]),
            str(group["window"] or "–"),
            str(group["page_size"]),
            group["layout"],
            f"{group['pages']:,}",
            f"{group['pages'] * group['page_size']:,}",
            size(group["pages"] * group["page_bytes"]),
        )
    return shown
