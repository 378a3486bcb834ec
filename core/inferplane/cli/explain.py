"""`inferplane explain`."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import typer

from .options import ENGINE, with_settings

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_WIDE = 150  # columns for the kernels and the reasons side by side
_SHOWN = ("model", "device", "target")  # settings that the first line tells


@app.command()
@with_settings(*ENGINE)
def explain(
    model_name: str | None = typer.Argument(None, metavar="MODEL", help="Folder or name."),
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

    from .show import console, rows_of

    out = console()
    out.print(_head(found))
    out.print()
    out.print(_groups(found["groups"]))
    out.print()
    if out.width >= _WIDE:
        out.print(_kernels(found["ops"]))
    else:
        out.print(_narrow_kernels(found["ops"]))
        out.print("\nwhy not the others", style="bold")
        out.print(_reasons(found["ops"]))
    out.print()
    out.print(_settings(found["settings"]))
    if found["warnings"]:
        out.print(rows_of(("[bold]warning[/]", escape(text)) for text in found["warnings"]))


def _head(found: dict[str, Any]) -> Any:
    from rich.markup import escape

    from .show import rows_of, size

    platform, memory = found["platform"], found["memory"]
    planning = "planning for" if platform["planning"] else "on"
    where = f"{planning} {platform['device']}: {platform['reason']}"
    version = f"{platform['name']} {platform['version']} (contract {platform['contract']})"
    rows = [("platform", f"{version}, {where}")]
    if found["quantization"]:
        schemes = [f"{n} ({count})" for n, count in found["quantization"]["schemes"].items()]
        told = f"{found['quantization']['format']}: {', '.join(schemes) or 'no module'}"
        rows.append(("quantized", told))
    extra = memory["packed_copies_bytes"]
    copies = f", packed copies {size(extra)}" if extra else ""
    rows += [
        ("weights", f"{size(memory['weight_bytes'])}{copies}"),
        ("KV", f"{size(memory['kv_bytes_per_token'])} a token"),
        ("fits", f"{memory['kv_tokens']:,} tokens: {memory['source']}"),
    ]
    return rows_of((f"[bold]{name}[/]", escape(text)) for name, text in rows)


def _kernels(rows: list[dict[str, Any]]) -> Any:
    """What serves each op, and why not the others. What was told for another request of the op is
    not told again."""
    from rich.markup import escape

    from .show import table

    columns = ("op", "request", "sites", "kernel", "level", "verified")
    shown = table(*columns, "why not the others")
    told: dict[tuple[str, ...], str] = {}
    for row in rows:
        lines = tuple(_lines(row))
        key = (row["op"], *lines)
        others = told.get(key) or escape("\n".join(lines)) or "–"
        if len(lines) > 1:
            told.setdefault(key, f"as for {row['request']}")
        shown.add_row(*(str(row[column]) for column in columns), others)
    return shown


def _narrow_kernels(rows: list[dict[str, Any]]) -> Any:
    """What serves each op, for 80 columns."""
    from .show import table

    shown = table("op", "request", "sites", "kernel", "verified")
    for row in rows:
        kernel = row["kernel"].replace(", ", "\n")
        if row["level"] != "op":
            kernel += f"\n({row['level']})"
        shown.add_row(row["op"], row["request"], str(row["sites"]), kernel, row["verified"])
    return shown


def _lines(row: dict[str, Any]) -> list[str]:
    return [f"{r['kernel']}: {r['reason']}" for r in row["rejected"]]


def _reasons(rows: list[dict[str, Any]]) -> Any:
    """Why not the others, each reason once. An op with more than one kernel has a part for each."""
    from rich.markup import escape

    from .show import rows_of

    found: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        lines = found.setdefault((row["op"], row["kernel"]), {})
        lines.update(dict.fromkeys(_lines(row)))
    kernels = Counter(op for op, _ in found)
    ops = list(kernels)
    return rows_of(
        (f"{op}\n{kernel}" if kernels[op] > 1 else op, escape("\n".join(lines)))
        for (op, kernel), lines in sorted(found.items(), key=lambda item: ops.index(item[0][0]))
        if lines
    )


def _settings(settings: dict[str, dict[str, Any]]) -> Any:
    """Those that something has decided, and where each came from; the rest only as a number."""
    from rich.markup import escape

    from .show import rows_of

    rows = [
        ("", name, escape(_value(item["value"])), escape(item["source"]))
        for name, item in settings.items()
        if item["source"] != "default" and item["value"] is not None and name not in _SHOWN
    ]
    left = sum(item["source"] == "default" for item in settings.values())
    rows.append(("", f"{left} more", "", "default; --json has all of them"))
    return rows_of([("[bold]settings[/]", *rows[0][1:]), *rows[1:]])


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


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
