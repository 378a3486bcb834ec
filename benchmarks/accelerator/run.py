"""All figures of an accelerator with one command, each part in a process of its own.

    python benchmarks/accelerator/run.py --device NAME --out DIR
    python benchmarks/accelerator/run.py --device cpu --small --out DIR   # a trial of the scripts

A part that fails, hangs or runs out of time loses nothing of the others, nor what it had found. DIR
gets a JSON file and a log of each part, and `summary.json`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from accelerator.job import Job, read, save
from accelerator.parts import BY_NAME, PARTS, Part, run_here
from accelerator.table import show, summary

_LEAST_SECONDS = 15.0
_GRACE_SECONDS = 5.0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto", help="as inferplane's --device")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is found")
    parser.add_argument("--only", nargs="+", choices=list(BY_NAME), help="only these parts")
    parser.add_argument("--skip", nargs="+", choices=list(BY_NAME), default=[])
    parser.add_argument("--minutes", type=float, default=30.0, help="for all parts together")
    parser.add_argument("--small", action="store_true", help="tiny sizes: a trial, no figures")
    parser.add_argument("--kernel", action="append", default=[], help="OP=NAME, a pin")
    parser.add_argument("--draws", type=int, help="drawn cases of each kernel in the kit")
    parser.add_argument("--note", default="", help="kept with the figures: the driver's version")
    parser.add_argument("--json", action="store_true", help="print summary.json, not tables")
    parser.add_argument("--part", choices=list(BY_NAME), help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=3600.0, help=argparse.SUPPRESS)
    parser.add_argument("--warm", default="", help=argparse.SUPPRESS)
    parser.add_argument("--command", default="", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.draws is None:
        args.draws = 0 if args.small else 24
    return args


def main(arguments: list[str]) -> int:
    with contextlib.suppress(ValueError):  # no file here may be taken for another package's
        sys.path.remove(str(Path(__file__).resolve().parent))
    args = parse(arguments)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.part:
        return run_here(job_of(args), args.warm)
    command = shlex.join(["python", "benchmarks/accelerator/run.py", *arguments])
    parts = [p for p in PARTS if p.name in (args.only or BY_NAME) and p.name not in args.skip]
    end = time.monotonic() + 60 * args.minutes
    for part in parts:
        left = end - time.monotonic()
        seconds = min(part.seconds, left)
        if seconds < _LEAST_SECONDS:
            mark(args, part, command, "not run", f"the {args.minutes:g} minutes were up")
            continue
        print(f"{part.name}: {part.about}, up to {seconds:.0f} s", file=sys.stderr, flush=True)
        run_apart(args, part, seconds, command)
    document = summary(parts, args.out.resolve(), command, args.note)
    if args.json:
        print(json.dumps(document, indent=1))
    else:
        show(document)
    return 0 if all(p["status"] in ("done", "not run") for p in document["parts"].values()) else 1


def job_of(args: argparse.Namespace) -> Job:
    """In a warming process nothing may overwrite what the part has found."""
    out = args.out.resolve()
    if args.warm:
        out = out / "warm" / args.warm.replace("/", "-of-")
        out.mkdir(parents=True, exist_ok=True)
    return Job(
        part=args.part,
        device=args.device,
        out=out,
        small=args.small,
        kernels=tuple(args.kernel),
        seconds=args.seconds,
        draws=args.draws,
        command=args.command,
    )


def run_apart(args: argparse.Namespace, part: Part, seconds: float, command: str) -> None:
    """Runs a part, and writes down how it ended where it could not do so itself."""
    line = [sys.executable, __file__, "--part", part.name, "--device", args.device]
    line += ["--out", str(args.out), "--seconds", str(seconds), "--draws", str(args.draws)]
    line += ["--command", command, *(f"--kernel={pin}" for pin in args.kernel)]
    line += ["--small"] if args.small else []
    begin = time.monotonic()
    (args.out / f"{part.name}.json").unlink(missing_ok=True)
    with (args.out / f"{part.name}.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(line, stdout=log, stderr=log, start_new_session=True)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            end_group(process)
            mark(args, part, command, "stopped", f"it was not done in {seconds:.0f} s")
            return
        except BaseException:
            end_group(process)
            raise
    found = read(args.out / f"{part.name}.json") or {}
    if found.get("status", "running") == "running":
        mark(args, part, command, "failed", f"its process ended with {code}: see {part.name}.log")
    print(f"  {time.monotonic() - begin:.0f} s, exit {code}", file=sys.stderr, flush=True)


def end_group(process: subprocess.Popen[Any]) -> None:
    """The process and all that it started, politely first."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sent)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)


def mark(args: argparse.Namespace, part: Part, command: str, status: str, reason: str) -> None:
    """The status of a part that did not write its own; what it had found stays."""
    path = args.out / f"{part.name}.json"
    document = read(path) if status != "not run" else None
    if document is None:
        job = Job(part.name, args.device, args.out.resolve(), args.small, command=command)
        job.write(status, reason)
        return
    save(path, document | {"status": status, "reason": reason})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
