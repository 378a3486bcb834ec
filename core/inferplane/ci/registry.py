"""Every test file of a project with what its marks say, and what is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from inferplane.errors import UserError

from . import rules
from .config import CiConfig, find_root, load_config
from .literals import ANY
from .marks import Entry, Reading, read
from .platforms import Found, Platform, known_platforms
from .problems import Problem

_SKIPPED = {"__pycache__", "node_modules", "site-packages"}
_SHOWN = 10


@dataclass(frozen=True)
class TestFile:
    """path: from the project's folder, with "/" between its parts."""

    __test__ = False

    path: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Job:
    """A file and those of its marks that a run selects. est_seconds is their sum."""

    path: str
    est_seconds: float
    entries: tuple[Entry, ...] = ()


@dataclass
class Registry:
    root: Path
    config: CiConfig
    platforms: dict[str, Platform]
    files: list[TestFile] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def platforms_of(self, entry: Entry) -> tuple[str, ...]:
        """Names of the platforms where an entry's tests run, "*" resolved."""
        named = entry.mark.platforms
        suite = self.config.suites.get(entry.mark.suite or "")
        if named is None:
            named = suite.platforms if suite else ()
        return tuple(self.platforms) if ANY in named else named

    def selects(self, entry: Entry, suite: str, platform: str, nightly: bool) -> bool:
        """nightly: tests for every commit run too, and those of the night beside them."""
        return (
            entry.mark.suite == suite
            and platform in self.platforms_of(entry)
            and (nightly or not entry.mark.nightly)
        )

    def jobs(self, suite: str, platform: str, nightly: bool = False) -> list[Job]:
        """What runs for a suite on a platform, by path. Raises UserError for unknown names."""
        self.check_suite(suite)
        self.check_platform(platform)
        jobs = []
        for file in self.files:
            chosen = [e for e in file.entries if self.selects(e, suite, platform, nightly)]
            if chosen:
                seconds = sum(entry.mark.est_seconds or 0.0 for entry in chosen)
                jobs.append(Job(file.path, seconds, tuple(chosen)))
        return jobs

    def check_suite(self, name: str) -> None:
        if name not in self.config.suites:
            raise UserError(rules.unknown("suite", name, self.config.suites))

    def check_platform(self, name: str) -> None:
        if name not in self.platforms:
            raise UserError(rules.unknown("platform", name, self.platforms))


def collect(start: Path, found: Found | None = None) -> Registry:
    """Reads a project, with all problems kept. Raises UserError for a wrong configuration.

    start: a folder of the project. found: entry points, for `known_platforms`.
    """
    root = find_root(start)
    config = load_config(root)
    registry = Registry(root, config, known_platforms(config, found))
    registry.problems += rules.check_config(config, registry.platforms)
    seen: dict[str, str] = {}
    for pattern, path in _test_files(root, config):
        name = path.relative_to(root).as_posix()
        if name in seen:
            message = f"belongs to two test roots, {seen[name]!r} and {pattern!r}: keep one"
            registry.problems.append(Problem(name, 0, "duplicate", message))
            continue
        seen[name] = pattern
        _add(registry, name, read(path.read_bytes(), name))
    registry.files.sort(key=lambda file: file.path)
    registry.problems.sort()
    return registry


def load(start: Path, found: Found | None = None) -> Registry:
    """`collect` for those who need a registry without problems; UserError lists what there are."""
    registry = collect(start, found)
    if registry.problems:
        count = len(registry.problems)
        lines = [str(problem) for problem in registry.problems[:_SHOWN]]
        if count > _SHOWN:
            lines.append(f"... and {count - _SHOWN} more: inferplane-ci validate")
        text = "\n  ".join(lines)
        raise UserError(f"{count} problem{'s' * (count > 1)} of registration:\n  {text}")
    return registry


def _add(registry: Registry, name: str, reading: Reading) -> None:
    file = TestFile(name, tuple(reading.entries))
    registry.files.append(file)
    registry.problems += reading.problems
    registry.problems += rules.check_file(file.path, reading, registry)


def _test_files(root: Path, config: CiConfig) -> Iterator[tuple[str, Path]]:
    """(root's glob, file) of every test file, in order."""
    for pattern in config.roots:
        folders = sorted(root.glob(pattern))
        if not folders and not any(c in pattern for c in "*?["):
            raise UserError(
                f"no folder {pattern!r} in {root}, which roots of [tool.inferplane-ci] has"
            )
        for folder in folders:
            for path in _walk(folder):
                inside = path.relative_to(root).as_posix()
                excluded = any(fnmatch(inside, glob) for glob in config.exclude)
                if not excluded and any(fnmatch(path.name, glob) for glob in config.files):
                    yield pattern, path


def _walk(folder: Path) -> Iterator[Path]:
    for at, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if f not in _SKIPPED and not f.startswith("."))
        yield from (Path(at) / name for name in sorted(files) if name.endswith(".py"))
