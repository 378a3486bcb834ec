"""`inferplane plugin`: for people who write plugins."""

from __future__ import annotations

import json
from typing import Any

import typer

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Start a plugin, see what one offers, and check it.",
)
_JSON = typer.Option(False, "--json", help="Print JSON.")


@app.command("new")
def new(
    name: str = typer.Argument(
        ..., metavar="NAME", help="Short name of the platform: what --device will take."
    ),
    folder: str = typer.Option(".", "--folder", help="Where to put inferplane-NAME."),
) -> None:
    """Write a package that works at once. It is to be changed step by step."""
    from pathlib import Path

    from inferplane.authoring.scaffold import create
    from inferplane.plugins.discovery import discover

    made = create(name, Path(folder), discover())
    from .show import console

    out = console()
    out.print(f"wrote {made.folder}", markup=False)
    for path in made.files:
        out.print(f"  {path.relative_to(made.folder).as_posix()}", markup=False)
    out.print("\nnext:")
    for line in made.next_steps():
        out.print(f"  {line}", markup=False, soft_wrap=True)


@app.command("list")
def list_plugins(as_json: bool = _JSON) -> None:
    """Show every plugin that is installed, ready or why not. Imports them, probes no device."""
    from inferplane.authoring.describe import entry

    rows = [entry(plugin) for plugin in _discover()]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    from .show import console, table

    shown = table("name", "kind", "package", "contract", "state")
    for row in rows:
        package = f"{row['distribution']} {row['version']}"
        kind, contract = row["kind"] or "?", row["contract"] or "?"
        shown.add_row(row["name"], kind, package, contract, _plain(row["state"]))
    out = console()
    out.print(shown)
    for row in rows:
        for warning in row["warnings"]:
            out.print(f"warning: {row['name']}: {warning}", markup=False)


@app.command("show")
def show(
    name: str = typer.Argument(..., metavar="NAME", help="Name."), as_json: bool = _JSON
) -> None:
    """Show the hooks, candidates and profiles of one plugin."""
    from inferplane.authoring.check import named
    from inferplane.authoring.describe import details

    rows = [details(plugin) for plugin in named(_discover(), name)]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    for row in rows:
        _show(row)


@app.command("check")
def check(
    name: str = typer.Argument(..., metavar="NAME", help="Name."), as_json: bool = _JSON
) -> None:
    """Look for mistakes in an installed plugin. Exits 1 if there is an error."""
    from inferplane.authoring.check import check as run

    from .show import console

    with console(stderr=True).status(f"checking {name}"):
        reports = run(name)
    errors = sum(report.errors for report in reports)
    if as_json:
        print(
            json.dumps(
                [
                    {
                        "plugin": report.plugin.name,
                        "distribution": report.plugin.distribution,
                        "version": report.plugin.version,
                        "errors": report.errors,
                        "requests_asked": report.asked,
                        "findings": [finding.as_row() for finding in report.findings],
                    }
                    for report in reports
                ],
                indent=2,
            )
        )
    else:
        for report in reports:
            _report(report)
    if errors:
        raise typer.Exit(1)


@app.command("diff")
def diff(
    old: str | None = typer.Argument(None, metavar="OLD", help="Contract version, such as 0.1."),
    new: str | None = typer.Argument(None, metavar="NEW", help="Default: this core's."),
    plugin: str | None = typer.Option(None, "--plugin", help="Only what touches this plugin."),
    as_json: bool = _JSON,
) -> None:
    """Show what changed between two versions of the contract. Says whom it breaks."""
    from inferplane.authoring.check import named
    from inferplane.authoring.difference import difference

    chosen = named(_discover(), plugin)[0] if plugin else None
    found = difference(old, new, chosen)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    from .show import console, table

    out = console()
    about = f" that touches {plugin}" if plugin else ""
    out.print(f"contract {found['old']} to {found['new']}", style="bold")
    for text in found["renamed"]:
        out.print(f"renamed   {text}", markup=False)
    if not found["changes"]:
        out.print(f"nothing{about} changed")
        return
    shown = table("change", "what", "how", "breaks")
    for row in found["changes"]:
        shown.add_row(row["kind"], row["name"], _plain(row["text"]), row["breaks"] or "nobody")
    out.print(shown)


def _discover() -> list[Any]:
    from inferplane.plugins.discovery import discover
    from inferplane.settings import load_settings

    settings, _ = load_settings({})
    return discover(settings.plugins)


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)


def _show(row: dict[str, Any]) -> None:
    from .show import console, size, table

    out = console()
    out.print(f"{row['name']} ({row['kind'] or 'not usable'})", style="bold")
    out.print(f"package   {row['distribution']} {row['version']}", markup=False)
    out.print(f"contract  {row['contract'] or '?'}      {row['entry_point']}", markup=False)
    out.print(f"state     {row['state']}", markup=False)
    for warning in row["warnings"]:
        out.print(f"warning   {warning}", markup=False)
    if not row["ready"]:
        return
    hooks = [h + (" (provisional)" * (h in row["provisional_hooks"])) for h in row["hooks"]]
    out.print(f"hooks     {', '.join(hooks)}\n", markup=False)
    offers = table("op", "candidate", "level", "features", "page sizes", "loads")
    for offer in row["candidates"]:
        features = ", ".join(offer["features"]) or "–"
        pages = ", ".join(map(str, offer["page_sizes"])) or "–"
        level, load = offer["level"], offer["load"]
        offers.add_row(offer["op"], offer["name"], level, features, pages, load)
    out.print(offers)
    if row.get("profiles"):
        out.print()
        shown = table("profile", "device", "memory", "dtypes", "capabilities", "page sizes")
        for props in row["profiles"]:
            shown.add_row(
                props["profile"],
                props["name"],
                size(props["memory_bytes"]),
                ", ".join(props["dtypes"]),
                ", ".join(props["capabilities"]) or "–",
                ", ".join(map(str, props["page_sizes"])) or "any",
            )
        out.print(shown)
    for problem in row["problems"]:
        out.print(f"{problem['severity']}: {problem['message']}", markup=False)


def _report(report: Any) -> None:
    from .show import console, table

    out = console()
    plugin = report.plugin
    out.print(f"{plugin.name} ({plugin.distribution} {plugin.version})", style="bold", markup=False)
    if report.findings:
        shown = table("", "code", "where", "what to change")
        for finding in report.findings:
            where = finding.subject or "plugin"
            shown.add_row(finding.severity, finding.code, where, _plain(finding.message))
        out.print(shown)
    counts = [
        f"{n} {kind}{'s' * (n != 1)}"
        for kind in ("error", "warning", "note")
        if (n := sum(f.severity == kind for f in report.findings))
    ]
    asked = f"{report.asked:,} answers of supports compared"
    out.print(f"{', '.join(counts) or 'nothing found'}; {asked}", markup=False)
