"""What `inferplane-ci` prints for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from inferplane.cli.show import table

from .durations import Proposal
from .partition import load
from .registry import Job, Registry
from .run import GOOD, HUNG, NOT_RUN, Result

LAST_LINES = 200
_COLOURS = {NOT_RUN: "yellow", HUNG: "bold red"}


def listing(registry: Registry, suite: str | None, platform: str | None) -> list[dict[str, Any]]:
    """One row for each mark of each file."""
    return [
        {
            "path": file.path,
            "tests": entry.scope or "all",
            "line": entry.mark.line,
            "suite": entry.mark.suite,
            "platforms": list(registry.platforms_of(entry)),
            "est_seconds": entry.mark.est_seconds,
            "nightly": bool(entry.mark.nightly),
        }
        for file in registry.files
        for entry in file.entries
        if suite in (None, entry.mark.suite)
        and (platform is None or platform in registry.platforms_of(entry))
    ]


def totals(registry: Registry, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Files and estimated seconds of each suite that the rows are of."""
    made = []
    for suite, config in registry.config.suites.items():
        its = [row for row in rows if row["suite"] == suite]
        every = [row["est_seconds"] for row in its if not row["nightly"]]
        made.append(
            {
                "suite": suite,
                "about": config.about,
                "files": len({row["path"] for row in its}),
                "est_seconds": sum(every),
                "nightly_est_seconds": sum(row["est_seconds"] for row in its),
                "platforms": sorted({name for row in its for name in row["platforms"]}),
            }
        )
    return made


def list_tables(rows: Sequence[dict[str, Any]], sums: Sequence[dict[str, Any]]) -> list[Table]:
    files = table("file", "tests", "suite", "platforms", "estimate", "when")
    for row in rows:
        when = "nightly" if row["nightly"] else "every commit"
        cells = (row["path"], row["tests"], row["suite"], " ".join(row["platforms"]))
        files.add_row(*map(escape, cells), f"{row['est_seconds']:g} s", when)
    suites = table("suite", "files", "every commit", "with nightly", "platforms", "about")
    for row in sums:
        suites.add_row(
            row["suite"], str(row["files"]), f"{row['est_seconds']:g} s",
            f"{row['nightly_est_seconds']:g} s", " ".join(row["platforms"]), escape(row["about"]),
        )  # fmt: skip
    return [files, suites]


def parts_table(parts: Iterable[tuple[int, Sequence[Job]]]) -> Table:
    made = table("part", "estimate", "files")
    for index, jobs in parts:
        names = "\n".join(f"{job.est_seconds:g} s  {job.path}" for job in jobs)
        made.add_row(str(index), f"{load(jobs):g} s", escape(names) or "–")
    return made


def matrix_table(rows: Iterable[dict[str, Any]]) -> Table:
    names = ("platform", "suite", "part", "runs-on", "python", "estimate", "install")
    made = table(*names)
    for row in rows:
        made.add_row(
            row["platform"], row["suite"], f"{row['part']}/{row['parts']}",
            escape(" ".join(row["runs-on"])), row["python"], f"{row['est_seconds']:g} s",
            escape(row["install"]),
        )  # fmt: skip
    return made


def results_table(results: Iterable[Result]) -> Table:
    made = table("file", "state", "seconds", "estimate", "passed", "failed", "skipped", "why")
    for r in results:
        colour = _COLOURS.get(r.state, "green" if r.state in GOOD else "red")
        made.add_row(
            escape(r.path), f"[{colour}]{r.state}[/]", f"{r.seconds:.1f}", f"{r.est_seconds:g}",
            str(r.passed), str(r.failed), str(r.skipped), escape(r.reason),
        )  # fmt: skip
    return made


def failure_text(result: Result) -> str:
    """Output of a file that did not pass: its last lines, and the stacks where it hung."""
    lines = result.output.rstrip().splitlines()
    cut = len(lines) - LAST_LINES
    if cut > 0:
        lines = [f"({cut} lines are left out)", *lines[-LAST_LINES:]]
    text = "\n".join([f"---- {result.path}: {result.reason}", *lines])
    if result.stacks:
        text += f"\n---- {result.path}: where it hung\n{result.stacks.rstrip()}"
    return text


def proposals_table(proposals: Iterable[Proposal]) -> Table:
    made = table("file", "tests", "estimate", "proposed", "measured")
    for p in proposals:
        measured = " ".join(f"{seconds:.1f}" for seconds in p.measured)
        made.add_row(escape(p.path), p.scope or "all", f"{p.old:g} s", f"{p.new} s", measured)
    return made
