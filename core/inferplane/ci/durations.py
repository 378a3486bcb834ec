"""Measured seconds of files: kept as JSON, and compared with the estimates of their marks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inferplane.errors import UserError

from .literals import Place
from .problems import Problem
from .registry import Registry
from .run import PASSED, Request, Result

MOST_RELATIVE = 0.3
MOST_SECONDS = 1.0


class FileSeconds(BaseModel):
    """seconds: wall clock of the file. marks: the same, by the scope of each mark that ran."""

    model_config = ConfigDict(extra="forbid")
    seconds: float = Field(ge=0)
    marks: dict[str, float]


class Measured(BaseModel):
    """One run. Only files that passed are in it."""

    model_config = ConfigDict(extra="forbid")
    suite: str
    platform: str
    nightly: bool
    files: dict[str, FileSeconds]


class Durations(BaseModel):
    """A durations file."""

    model_config = ConfigDict(extra="forbid")
    version: int = Field(1, ge=1, le=1)
    runs: list[Measured] = Field(default_factory=list)


@dataclass(frozen=True)
class Proposal:
    """A new estimate for one mark."""

    path: str
    scope: str
    place: Place
    old: float
    new: int
    measured: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        row = {name: getattr(self, name) for name in ("path", "scope", "old", "new")}
        return {**row, "line": self.place.line, "measured": list(self.measured)}


def record(path: Path, request: Request, results: Iterable[Result]) -> None:
    """Adds a run to a durations file, which is made where there is none."""
    kept = load_durations(path) if path.exists() else Durations(version=1)
    files = {
        r.path: FileSeconds(
            seconds=round(r.seconds, 3), marks={k: round(v, 3) for k, v in r.marks.items()}
        )
        for r in results
        if r.state == PASSED
    }
    kept.runs.append(
        Measured(
            suite=request.suite, platform=request.platform, nightly=request.nightly, files=files
        )
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept.model_dump(), indent=1) + "\n", encoding="utf-8")


def load_durations(path: Path) -> Durations:
    try:
        return Durations.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read durations from {path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{path} is no durations file: {where} {first['msg']}") from None


def propose(registry: Registry, files: Sequence[Durations]) -> list[Proposal]:
    """New estimates where the median of the measurements is more than 30 % and 1 s away."""
    seconds: dict[tuple[str, str], list[float]] = {}
    for run in (run for kept in files for run in kept.runs):
        for path, measured in run.files.items():
            for scope, spent in measured.marks.items():
                seconds.setdefault((path, scope), []).append(spent)
    proposals = []
    for file in registry.files:
        for entry in file.entries:
            found = seconds.get((file.path, entry.scope))
            old, place = entry.mark.est_seconds, entry.mark.estimate_at
            if found and old and place and far(median(found), old):
                new = max(1, round(median(found)))
                proposals.append(
                    Proposal(file.path, entry.scope, place, old, new, tuple(sorted(found)))
                )
    return proposals


def far(measured: float, estimate: float) -> bool:
    away = abs(measured - estimate)
    return away > MOST_SECONDS and away > MOST_RELATIVE * estimate


def stale(registry: Registry, path: Path) -> list[Problem]:
    """What a durations file says of things that are no longer there."""
    scopes = {file.path: {entry.scope for entry in file.entries} for file in registry.files}
    shown = (
        path.relative_to(registry.root).as_posix()
        if path.is_relative_to(registry.root)
        else str(path)
    )
    gone: dict[str, None] = {}
    for run in load_durations(path).runs:
        if run.suite not in registry.config.suites:
            gone[f"suite {run.suite!r}"] = None
        if run.platform not in registry.platforms:
            gone[f"platform {run.platform!r}"] = None
        for name, measured in run.files.items():
            if name not in scopes:
                gone[name] = None
                continue
            gone.update({f"{name}::{s}": None for s in measured.marks if s not in scopes[name]})
    return [Problem(shown, 0, "stale-duration", f"{what} is not there any more") for what in gone]
