"""`inferplane conformance`."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from inferplane.errors import UserError, nearest

app = typer.Typer(add_completion=False, rich_markup_mode=None)

LEVELS = ("V0", "V1", "V2i", "V2e", "V3")


@app.command()
def conformance(
    device: str = typer.Option(..., "--device", help="Platform, or platform:index."),
    area: list[str] = typer.Option([], "--area", help="Only this area; may be given again."),
    level: str | None = typer.Option(
        None, "--level", help="V0: answers only, no device. Others: refused if the device has less."
    ),
    op: str = typer.Option("", "--op", help="Only this op."),
    candidate: str = typer.Option("", "--candidate", help="Only this kernel."),
    case: str = typer.Option("", "--case", help="Only this case, by its id."),
    draws: int = typer.Option(24, "--draws", min=0, help="Drawn cases of each kernel."),
    target: str | None = typer.Option(None, "--target", help="Profile, for --level V0."),
    json_file: str | None = typer.Option(None, "--json", help="Write the certificate; - prints."),
    verbose: bool = typer.Option(False, "-v", "--verbose", help="Show refusals and notes."),
) -> None:
    """Check every kernel that a platform offers against the reference, and say what is verified.

    Ends with 1 where a promise of the contract is broken.
    """
    from inferplane.testing.conformance.certificate import certificate, rows
    from inferplane.testing.conformance.session import Choice
    from inferplane.testing.conformance.worker import Order

    if level is not None and level not in LEVELS:
        raise UserError(f"no level {level!r}{nearest(level, LEVELS)}; levels: {', '.join(LEVELS)}")
    if level == "V1":
        raise UserError(
            "--level V1: kernels compiled for a device that is not here are checked by the plugin's"
            " own build; the kit checks answers (V0) or runs kernels (V2i, V2e, V3)"
        )
    if target is not None and level != "V0":
        raise UserError("--target plans for a device that is not here: give --level V0 with it")
    choice = Choice(tuple(area), op, candidate, case, draws)
    order = Order(device, target, level == "V0", choice)
    about, results = _run(order, level)
    found = rows(about, results)
    made = certificate(about, found, draws, choice.complete)
    if json_file == "-":
        print(json.dumps(made, indent=1))
    else:
        _show(about, found, results, verbose)
        if json_file:
            Path(json_file).write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    failed = [result for result in results if result["status"] == "failed"]
    again = f"--device {device}" + (f" --level {level}" if level else "")
    again += f" --target {target}" if target else ""
    for line in failure_lines(again, failed):
        print(line, file=sys.stderr)
    if failed:
        raise typer.Exit(1)


def _run(order: Any, level: str | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    from inferplane.testing.conformance.isolated import run

    from .show import steps

    about: dict[str, Any] = {}
    results: list[dict[str, Any]] = []
    with steps("conformance") as tell:
        for line in run(order):
            if "cases" in line:
                about, total = line["about"], len(line["cases"])
                _check_level(about, level)
                tell("", 0, total)
            elif "start" in line:
                tell(line["start"], len(results), total)
            else:
                results.append(line["result"])
                tell(line["result"]["id"], len(results), total)
    return about, results


def _check_level(about: dict[str, Any], level: str | None) -> None:
    """A lower level is never presented as a higher one."""
    if level is not None and LEVELS.index(about["level"]) < LEVELS.index(level):
        raise UserError(
            f"--level {level}: {about['device']} is {about['execution']}, a run there proves "
            f"{about['level']} at most"
        )


def _show(
    about: dict[str, Any],
    found: list[dict[str, Any]],
    results: list[dict[str, Any]],
    verbose: bool,
) -> None:
    from .show import console, table

    out = console()
    versions = about["versions"]
    how = "answers only" if about["level"] == "V0" else about["execution"]
    out.print(
        f"[bold]{about['platform']}[/]  {about['device']} ({how}), inferplane "
        f"{versions['inferplane']}, contract {versions['contract']}, torch {versions['torch']}\n"
    )
    shown = table("op", "kernel", "level", "passed", "refused", "failed", "largest error")
    idle = [] if verbose or about["level"] == "V0" else [r for r in found if _refuses_all(r)]
    for row in (row for row in found if row not in idle):
        errors = ", ".join(f"{k} {float(v):.1e}" for k, v in sorted(row["largest_error"].items()))
        counts = [str(row[name]) for name in ("passed", "refused", "failed")]
        shown.add_row(row["op"], row["candidate"], row["level"], *counts, errors or "–")
    out.print(shown)
    if idle:
        names = ", ".join(row["candidate"] for row in idle)
        out.print(f"\nrefuse all that was asked here (-v shows why): {names}", markup=False)
    if verbose:
        for result in results:
            if result["note"]:
                out.print(f"{result['status']:8} {result['id']}: {result['note']}", markup=False)
    passed = sum(row["passed"] for row in found)
    other = ", ".join(
        f"{sum(row[name] for row in found)} {name.replace('_', ' ')}"
        for name in ("refused", "failed", "not_run")
    )
    seconds = sum(result["seconds"] for result in results)
    out.print(f"\n{passed} passed, {other}, {seconds:.0f} s")
    if about["level"] == "V0":
        out.print("only answers were checked: all else needs the device, and was not run")
        return
    out.print("errors are shares of the largest right value; refused requests go to other kernels")


def _refuses_all(row: dict[str, Any]) -> bool:
    """Whether a kernel was there for nothing but to say no."""
    return row["level"] == "V0" and row["refused"] > 0 and not row["failed"]


def failure_lines(again: str, failed: list[dict[str, Any]]) -> Iterator[str]:
    """What broke, and the command that runs just it again."""
    for result in failed:
        for check, message in result["failures"]:
            yield f"failed: {result['id']} [{check}] {message}"
        yield f"  inferplane conformance {again} --case {shlex.quote(result['id'])}"
