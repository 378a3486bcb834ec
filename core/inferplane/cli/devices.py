"""`inferplane devices`."""

from __future__ import annotations

from typing import Any

import typer

from inferplane.plugins.errors import PluginError

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def devices(
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
    verbose: bool = typer.Option(False, "-v", "--verbose", help="Show tracebacks."),
) -> None:
    """Show the platforms that are installed, their devices, and why others cannot be used."""
    from inferplane.plugins.discovery import discover
    from inferplane.settings import load_settings

    settings, _ = load_settings({})
    plugins = discover(settings.plugins)
    rows = [describe(plugin) for plugin in plugins]
    if as_json:
        import json

        print(json.dumps(rows, indent=2))
        return
    from rich.markup import escape

    from .show import console, rows_of, size, table

    shown = table("platform", "package", "contract", "devices", "state")
    missing: list[tuple[str, str]] = []
    for row in rows:
        names = "\n".join(
            f"{d['index']}: {d['name']}, {size(d['memory_bytes'])}" for d in row["devices"]
        )
        package = f"{row['distribution']} {row['version']}"
        kind = row["name"] if row["kind"] != "feature" else f"{row['name']} (kernels)"
        shown.add_row(kind, package, row["contract"] or "?", names or "–", row["state"])
        if row["reason"]:
            remedy = f"\nremedy: {row['remedy']}" if row["remedy"] else ""
            missing.append((row["name"], escape(row["reason"] + remedy)))
    out = console()
    out.print(shown)
    out.print()
    if missing:
        out.print(rows_of(missing))
        out.print()
    for row in rows:
        if row["links"]:
            out.print(_links(row["name"], row["links"]))
            out.print()
    out.print("--device auto takes the available platform with the highest score.")
    for plugin in plugins:
        for warning in plugin.warnings:
            out.print(f"warning: {plugin.label}: {warning}", markup=False)
        if verbose and plugin.traceback:
            out.print(f"\n{plugin.label}:", style="bold")
            out.print(plugin.traceback, markup=False)


def _links(name: str, rows: list[list[str]]) -> Any:
    """How the devices of a platform are joined, as a table."""
    from .show import table

    shown = table(f"{name} links", *(f"{name}:{index}" for index in range(len(rows))))
    for index, row in enumerate(rows):
        shown.add_row(f"{name}:{index}", *(link or "–" for link in row))
    return shown


def links(plugin: Any, devices: Any) -> list[list[str]]:
    """Of each device to each other, "" for none; empty where there are not two, or nobody tells."""
    if len(devices) < 2:
        return []
    try:
        found = plugin.call("inferplane_topology", props=devices[0])
    except PluginError as error:
        plugin.warnings.append(f"links are not known: {error}")
        return []
    rows = [list(row) for row in found.links] if found else []
    sizes, count = {len(rows), *map(len, rows)}, len(devices)
    if rows and sizes != {count}:
        told = ", ".join(map(str, sorted(sizes)))
        plugin.warnings.append(
            f"links are not known: it tells of {told} devices, and its probe found {count}"
        )
        return []
    return rows


def describe(plugin: Any) -> dict[str, Any]:
    """One plugin as JSON has it. Probes its devices."""
    from inferplane.plugins.selection import probe

    spec = plugin.spec
    row: dict[str, Any] = {
        "name": spec.name if spec else plugin.name,
        "kind": "feature" if plugin.feature else "platform",
        "distribution": plugin.distribution,
        "version": plugin.version,
        "contract": ".".join(map(str, spec.api)) if spec else "",
        "devices": [],
        "links": [],
        "state": "cannot be used" if plugin.error else "ready",
        "reason": str(plugin.error or ""),
        "remedy": "",
        "usable": plugin.ready,
    }
    if plugin.ready and plugin.platform:
        found = probe(plugin)
        row["score"] = plugin.platform.score
        row["profiles"] = [p.profile for p in plugin.platform.profiles]
        row["devices"] = [
            {
                "index": d.index,
                "name": d.name,
                "memory_bytes": d.memory_bytes,
                "dtypes": sorted(d.dtypes),
                "capabilities": sorted(d.capabilities),
            }
            for d in found.devices
        ]
        row["links"] = links(plugin, found.devices)
        if not found.available:
            row |= {"usable": False, "state": "no device"}
            row |= {"reason": found.reason, "remedy": found.remedy}
    return row
