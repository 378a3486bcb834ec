"""What was found, as tables for a terminal and as one JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .job import read, save
from .parts import Part

_MAIN = (
    ("share", "{:.1%}"),
    ("accuracy", "{:.2%}"),
    ("bytes_per_s", "{:.3e} bytes/s"),
    ("flops", "{:.3e} operations/s"),
    ("tokens_per_s", "{:.1f} tokens/s"),
    ("output_tokens_per_s", "{:.1f} tokens/s"),
    ("microseconds", "{:.1f} µs"),
)


def summary(parts: Sequence[Part], out: Path, command: str, note: str = "") -> dict[str, Any]:
    """Every part's document, written to `summary.json` too."""
    found = {part.name: read(out / f"{part.name}.json") for part in parts}
    document = {"command": command, "note": note, "parts": {k: v for k, v in found.items() if v}}
    save(out / "summary.json", document)
    return document


def show(document: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if Console().is_terminal else 160)
    figures = Table("part", "figure", "found", "median", "p10 to p90", title="figures")
    checks = Table("part", "what", "wanted", "found", "met", title="wanted")
    for name, part in document["parts"].items():
        for figure, values in part["figures"].items():
            figures.add_row(name, figure, _main(values), *_times(values))
        for check in part["checks"]:
            met = "yes" if check["met"] else "NO"
            checks.add_row(name, check["what"], check["wanted"], check["found"], met)
        if part["status"] != "done":
            reason = f"{part['status']}: {part['reason']}"
            checks.add_row(name, "–", "–", reason, "–")
    for table in (figures, checks):
        console.print(table, markup=False)
    first: dict[str, Any] = next(iter(document["parts"].values()), {})
    device = next((p["device"]["name"] for p in document["parts"].values() if "device" in p), "?")
    versions = ", ".join(f"{k} {v}" for k, v in first.get("versions", {}).items())
    console.print(f"{device}; {versions}; {first.get('date', '')} UTC", markup=False)
    if any(part["trial"] for part in document["parts"].values()):
        console.print("a trial with small sizes: these are no figures", markup=False)


def _main(values: dict[str, Any]) -> str:
    if "not_run" in values and isinstance(values["not_run"], str):
        return f"not run: {values['not_run']}"
    for name, form in _MAIN:
        if isinstance(values.get(name), int | float):
            return form.format(values[name])
    if isinstance(values.get("seconds"), int | float):
        return f"{values['seconds']:.2f} s"
    return ", ".join(f"{k} {v}" for k, v in list(values.items())[:3])[:100]


def _times(values: dict[str, Any]) -> tuple[str, str]:
    """Median and spread of what was timed, in microseconds."""
    found = values.get("step_s", values.get("seconds"))
    if not isinstance(found, dict):
        return "", ""
    low, high = (f"{found[key] * 1e6:,.1f}" for key in ("p10", "p90"))
    return f"{found['median'] * 1e6:,.1f} µs", f"{low} to {high}"
