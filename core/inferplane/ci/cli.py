"""`inferplane-ci`: what tests there are, where and when they run, and running them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from .registry import Registry

app = typer.Typer(
    help="The CI registry: list, validate, split and run registered tests.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
ROOT = typer.Option(Path("."), "--root", help="A folder of the project; default: this one.")
JSON = typer.Option(False, "--json", help="Print JSON.")
SUITE = typer.Option(..., "--suite", help="The suite.")
PLATFORM = typer.Option(..., "--platform", help="The platform.")
NIGHTLY = typer.Option(False, "--nightly", help="Nightly tests too.")


@app.command("list")
def list_(
    suite: str = typer.Option(None, "--suite", help="Only this suite."),
    platform: str = typer.Option(None, "--platform", help="Only for this platform."),
    as_json: bool = JSON,
    root: Path = ROOT,
) -> None:
    """Show the registered tests, and the suites."""
    from .registry import load
    from .tables import list_tables, listing, totals

    registry = load(root)
    if suite is not None:
        registry.check_suite(suite)
    if platform is not None:
        registry.check_platform(platform)
    rows = listing(registry, suite, platform)
    sums = [row for row in totals(registry, rows) if suite in (None, row["suite"])]
    if as_json:
        _print_json({"tests": rows, "suites": sums})
        return
    files, suites = list_tables(rows, sums)
    _print(files, "", suites)


@app.command()
def validate(
    durations: list[Path] = typer.Option([], "--durations", help="Durations to look through too."),
    as_json: bool = JSON,
    root: Path = ROOT,
) -> None:
    """Check every registration. Ends with 1 where one is wrong."""
    from .durations import stale
    from .registry import collect

    registry = collect(root)
    kept = registry.config.durations
    paths = [*durations, *([registry.root / kept] if kept else [])]
    warnings = [problem for path in paths for problem in stale(registry, path.resolve())]
    if as_json:
        errors = [problem.as_json() for problem in registry.problems]
        more = [problem.as_json() for problem in warnings]
        _print_json({"files": len(registry.files), "errors": errors, "warnings": more})
    else:
        for kind, problems in (("warning", warnings), ("error", registry.problems)):
            for problem in problems:
                print(f"{kind}: {problem}", file=sys.stderr)
        count, files = len(registry.problems), len(registry.files)
        print(f"{files} test files, {len(registry.config.suites)} suites, {count} errors")
    if registry.problems:
        raise typer.Exit(1)


@app.command("partition")
def partition_(
    parts: int = typer.Option(..., "--parts", help="How many parts."),
    suite: str = SUITE,
    platform: str = PLATFORM,
    index: int = typer.Option(None, "--index", help="Only this part, from 1."),
    nightly: bool = NIGHTLY,
    as_json: bool = JSON,
    root: Path = ROOT,
) -> None:
    """Split a suite over parts, longest processing time first."""
    from .partition import load as seconds
    from .partition import part_of, partition
    from .registry import load
    from .tables import parts_table

    jobs = load(root).jobs(suite, platform, nightly)
    if index is None:
        made = list(enumerate(partition(jobs, parts), 1))
    else:
        made = [(index, part_of(jobs, index, parts))]
    if as_json:
        _print_json(
            [
                {"part": at, "est_seconds": seconds(part), "files": [job.path for job in part]}
                for at, part in made
            ]
        )
    else:
        _print(parts_table(made))


@app.command()
def run(
    suite: str = SUITE,
    platform: str = PLATFORM,
    part: str = typer.Option("1/1", "--part", help="I/N: part I of N, from 1."),
    nightly: bool = NIGHTLY,
    jobs: int = typer.Option(1, "--jobs", "-j", min=1, help="Files that run at once."),
    durations: Path = typer.Option(None, "--durations", help="Add the measured seconds to FILE."),
    pytest: list[str] = typer.Argument(None, help="After --: arguments for pytest."),
    as_json: bool = JSON,
    root: Path = ROOT,
) -> None:
    """Run a suite, or a part of it, within its time limits. Ends with 1 where a file fails."""
    from .partition import parse_part, part_of
    from .registry import load
    from .run import Request
    from .session import run_jobs

    index, parts = parse_part(part)
    registry = load(root)
    chosen = part_of(registry.jobs(suite, platform, nightly), index, parts)
    request = Request(suite, platform, nightly, jobs, tuple(pytest or ()))
    results = run_jobs(registry, request, chosen, durations)
    if as_json:
        _print_json([result.as_json() for result in results])
    else:
        from .tables import results_table

        _print(results_table(results))
    if not all(result.good for result in results):
        raise typer.Exit(1)


@app.command("durations")
def durations_(
    more: list[Path] = typer.Argument(None, metavar="FILE", help="More durations files."),
    first: list[Path] = typer.Option([], "--from", help="Durations files, as run writes them."),
    write: bool = typer.Option(False, "--write", help="Edit the sources."),
    as_json: bool = JSON,
    root: Path = ROOT,
) -> None:
    """Propose new estimates where measurements are far off. Shows a diff, or has --write."""
    from inferplane.errors import UserError

    from . import rewrite
    from .durations import load_durations, propose
    from .registry import load
    from .tables import proposals_table

    files = [*first, *(more or ())]
    if not files:
        raise UserError("no durations file was given: --from FILE, as run --durations writes")
    registry = load(root)
    proposals = propose(registry, [load_durations(path) for path in files])
    if as_json:
        _print_json([proposal.as_json() for proposal in proposals])
    elif not proposals:
        print("every estimate is near enough")
    elif write:
        _print(proposals_table(proposals))
    else:
        print(rewrite.diff(registry.root, proposals), end="")
    if write:
        rewrite.write(registry.root, proposals)


@app.command("matrix")
def matrix_(
    suite: list[str] = typer.Option([], "--suite", help="Only this suite; may be repeated."),
    platform: list[str] = typer.Option([], "--platform", help="Only this platform; repeated."),
    runners: str = typer.Option(
        "all",
        "--runners",
        help="Hardware platforms whose runner exists, or all, or none; the others wait.",
    ),
    nightly: bool = NIGHTLY,
    as_json: bool = JSON,
    root: Path = ROOT,
) -> None:
    """Print a GitHub Actions matrix. It has every platform that is installed or declared."""
    from .matrix import ALL, NONE, check_size, matrix, with_runners
    from .registry import load
    from .tables import matrix_table

    registry = load(root)
    named = runners.replace(",", " ").split()
    others = [name for name in named if name not in (ALL, NONE)]
    _check_names(registry, suite, [*platform, *others])
    rows = [
        row
        for row in matrix(registry, nightly)
        if (not suite or row["suite"] in suite) and (not platform or row["platform"] in platform)
    ]
    rows, waiting = with_runners(rows, named)
    check_size(rows)
    if waiting:
        names = ", ".join(dict.fromkeys(row["platform"] for row in waiting))
        print(f"{len(waiting)} jobs wait for a labelled runner: {names}", file=sys.stderr)
    if as_json:
        _print_json({"include": rows}, indent=None)
    else:
        _print(matrix_table(rows))


def _check_names(registry: Registry, suites: list[str], platforms: list[str]) -> None:
    for name in suites:
        registry.check_suite(name)
    for name in platforms:
        registry.check_platform(name)


def _print(*things: Any) -> None:
    from inferplane.cli.show import console

    console().print(*things, sep="\n")


def _print_json(value: Any, indent: int | None = 1) -> None:
    import json

    print(json.dumps(value, indent=indent))


def main() -> None:
    """Ends with 0, 1 for a failure or an error of the user, 2 for a wrong call, 130 for Ctrl-C."""
    from inferplane.cli.main import guarded

    sys.exit(guarded(app, "inferplane-ci", sys.argv[1:]))


if __name__ == "__main__":
    main()
