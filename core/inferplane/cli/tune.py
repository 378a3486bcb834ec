"""`inferplane tune`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from inferplane.errors import UserError

from .options import with_settings

if TYPE_CHECKING:
    from .measuring import Measured, Subject

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_AREAS = {"moe": "moe.experts"}
_SETTINGS = (
    *("revision", "device", "plugins", "kernel", "dtype", "kv_dtype", "quantization"),
    *("fuse_shared_experts", "page_size", "tuning", "graphs", "max_num_seqs"),
    "max_num_batched_tokens",
)


@app.command()
@with_settings(*_SETTINGS)
def tune(
    area: str = typer.Argument("", metavar="AREA", help="moe: the same as --op moe.experts."),
    model: str = typer.Option(..., "--model", help="Its requests are measured; no weights."),
    op: str = typer.Option("", "--op", help="Only this op."),
    compare: bool = typer.Option(
        False, "--compare", help="Measure all kernels that could serve, and prefer the fastest."
    ),
    out: str | None = typer.Option(
        None, "--out", help="Write here; default: where the kernel looks. Needs --op or --compare."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
    flags: Any = None,
    config: Any = None,
) -> None:
    """Measure the configurations of kernels on the device, and keep the best; or, with --compare,
    all kernels that could serve each request, and prefer the fastest from then on.

    Configurations are those of kernels that a model would get here; --kernel OP=NAME measures
    another one.
    """
    import torch

    from inferplane.planning.plan import make_plan
    from inferplane.plugins.tuning import versions as versions_here
    from inferplane.settings import load_settings

    from .measuring import subjects

    if area and area not in _AREAS:
        raise UserError(f"tune {area!r}: there is {', '.join(_AREAS)}; else name an op: --op")
    if area and op not in ("", _AREAS[area]):
        raise UserError(f"tune {area} is --op {_AREAS[area]}, and --op {op} is given")
    op = _AREAS.get(area, op)
    if out is not None and not op and not compare:
        raise UserError("--out names the file of one op: give --op with it")
    fixed = {"model": model, "load_format": "dummy"}
    if compare:
        fixed["tuning"] = "none"  # what serves without measurements is what others must agree with
    settings, sources = load_settings({**flags, **fixed}, config)
    plan = make_plan(settings, sources)
    versions = versions_here()
    if compare:
        _compare(plan, op, out, versions, as_json)
        return
    found = subjects(plan, op)
    if not found:
        raise UserError(_nothing(plan, op))
    device = plan.catalog.device()
    device.activate()
    with torch.inference_mode():
        results = _measure(found, device)
    files = _write(results, out, versions)
    if as_json:
        print(json.dumps([_row(result) for result in results], indent=1))
    else:
        _show(results, files)


def _compare(plan: Any, op: str, out: str | None, versions: dict[str, str], as_json: bool) -> None:
    import torch

    from inferplane.plugins.tuning import default_file

    from .comparing import compare, contests, kept, write
    from .show import console, steps

    found = contests(plan, op)
    if not found:
        which = f"requests of {op!r}" if op else "requests"
        raise UserError(
            f"no {which} that this model makes on {plan.catalog.props.name} could be served by "
            "more than one kernel; inferplane explain shows why each is refused"
        )
    path = Path(out) if out else default_file()
    kept(path)  # what cannot be written is told before the work
    device = plan.catalog.device()
    device.activate()
    with torch.inference_mode(), steps("compare") as tell:
        for at, contest in enumerate(found):
            tell(f"{contest.request.op} {contest.request.describe()}", at, len(found))
            try:
                compare(contest, plan, device)
            except UserError as error:
                write(found[: at + 1], path, versions)
                raise UserError(f"{error}; what was measured before is in {path}") from error
            write(found[: at + 1], path, versions)
    rows = [contest.entry() for contest in found]
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    _show_places(rows)
    console().print(f"wrote {path}", markup=False)


def _show_places(rows: Sequence[dict[str, Any]]) -> None:
    from .show import console, table

    shown = table("op", "request", "kernel", "decode µs", "prefill µs", "relative")
    for row in rows:
        for place in row["kernels"]:
            times = [f"{place['microseconds'][case]:.1f}" for case in ("decode", "prefill")]
            shown.add_row(
                row["op"], row["request"], place["kernel"], *times, f"{place['relative']:.2f}"
            )
    out = console()
    out.print(shown)
    for row in rows:
        for failed in row["failed"]:
            what = f"{row['op']} {row['request']}: {failed['kernel']} failed: {failed['reason']}"
            out.print(what, markup=False)


def _nothing(plan: Any, op: str) -> str:
    choices = plan.resolution.choices.values()
    known = sorted({c.op for choice in choices for _, c in choice.ranges if c.tunable})
    which = f"no kernel of {op!r} that this model gets" if op else "no kernel that this model gets"
    have = f"; tunable ops: {', '.join(known)}" if known else ""
    return f"{which} on {plan.catalog.props.name} has configurations to measure{have}"


def _measure(found: Sequence[Subject], device: Any) -> list[Measured]:
    from .measuring import measure
    from .show import steps

    sizes = [len(s.tunable.configurations(s.request, s.case)) for s in found]
    results, done = [], 0
    with steps("tune") as tell:
        for subject, size in zip(found, sizes, strict=True):
            for result in measure(subject, device):
                tried = len(result.times) + len(result.refused)
                tell(f"{subject.candidate.name} {subject.case}", done + tried, sum(sizes))
            results.append(result)
            done += size
    return results


def _write(results: Sequence[Measured], out: str | None, versions: dict[str, str]) -> list[Path]:
    """One file an op and kernel."""
    from .measuring import write

    files: dict[Path, list[Measured]] = {}
    for result in results:
        subject = result.subject
        path = Path(out) if out else subject.tunable.file(subject.request)
        files.setdefault(path, []).append(result)
    for path, its_results in files.items():
        write(its_results, path, versions)
    return list(files)


def _row(result: Measured) -> dict[str, Any]:
    subject = result.subject
    return {
        "op": subject.candidate.op,
        "kernel": subject.candidate.name,
        **result.entry(),
        "tried": len(result.times),
        "refused": [{"configuration": c, "reason": why} for c, why in result.refused],
    }


def _show(results: Sequence[Measured], files: Sequence[Path]) -> None:
    from .show import console, table

    out = console()
    shown = table("kernel", "request", "case", "best", "µs", "default µs", "tried", "refused")
    for result in results:
        row = _row(result)
        best = " ".join(f"{name}={value}" for name, value in row["configuration"].items())
        default = row["default_microseconds"]
        shown.add_row(
            row["kernel"],
            row["request"],
            row["case"] or "–",
            best,
            f"{row['microseconds']:.1f}",
            "refused" if default is None else f"{default:.1f}",
            str(row["tried"]),
            str(len(row["refused"])),
        )
    out.print(shown)
    for path in files:
        out.print(f"wrote {path}", markup=False)
