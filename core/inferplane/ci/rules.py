"""What must hold for every registered test. Each rule gives problems, and raises nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from inferplane.errors import nearest

from .config import CiConfig
from .literals import ANY
from .marks import Entry, Reading
from .platforms import Platform
from .problems import Problem

if TYPE_CHECKING:
    from .registry import Registry

HOW = (
    'pytestmark = pytest.mark.ci(platforms=["cpu"], suite="...", est_seconds=...) after the imports'
)
PYPROJECT = "pyproject.toml"


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that does not exist."""
    names = sorted(known)
    more = (
        "; install its plugin, or declare it in [tool.inferplane-ci.platforms]"
        if what == "platform"
        else "; suites are declared in [tool.inferplane-ci.suites]"
    )
    listed = ", ".join(names) or "none"
    return f"no {what} {name!r}{nearest(name, names)}; {what}s: {listed}{more}"


def check_config(config: CiConfig, platforms: dict[str, Platform]) -> list[Problem]:
    """Default platforms of suites must exist."""
    problems = []
    for suite, table in config.suites.items():
        for name in table.platforms:
            if name != ANY and name not in platforms:
                message = f"suite {suite!r}: {unknown('platform', name, platforms)}"
                problems.append(Problem(PYPROJECT, 0, "unknown-platform", message))
    return problems


def check_file(path: str, reading: Reading, registry: Registry) -> list[Problem]:
    """All rules on one file."""
    problems = [
        Problem(path, entry.mark.line, kind, message)
        for entry in reading.entries
        for kind, message in _check_entry(entry, registry)
    ]
    if not reading.entries and not reading.problems:
        problems.append(Problem(path, 0, "unregistered", f"is not registered: add {HOW}"))
    elif reading.entries:
        problems += [
            Problem(path, line, "unregistered", f"{name} has no ci mark: add {HOW}")
            for name, line in reading.unmarked
        ]
    return problems + _too_long(path, reading, registry.config)


def _check_entry(entry: Entry, registry: Registry) -> Iterator[tuple[str, str]]:
    """(kind, message) of what is wrong with one mark."""
    suites, platforms, mark = registry.config.suites, registry.platforms, entry.mark
    if mark.suite is None:
        yield "unknown-suite", f"suite is missing; suites: {', '.join(sorted(suites)) or 'none'}"
        return
    if mark.suite not in suites:
        yield "unknown-suite", unknown("suite", mark.suite, suites)
        return
    names = registry.platforms_of(entry)
    if not names:
        yield (
            "nowhere",
            f"runs nowhere: its mark has no platforms, and suite {mark.suite!r} no default ones",
        )
        return
    strange = [name for name in names if name not in platforms]
    for name in strange:
        yield "unknown-platform", unknown("platform", name, platforms)
    if not strange and not any(platforms[name].runs_on for name in names):
        yield (
            "nowhere",
            f"runs nowhere: no runner has a label for {', '.join(names)} (runs-on is [])",
        )


def _too_long(path: str, reading: Reading, config: CiConfig) -> list[Problem]:
    """A file that is expected to take more than its suite allows would always be killed."""
    sums: dict[str, float] = {}
    for entry in reading.entries:
        suite = entry.mark.suite or ""
        sums[suite] = sums.get(suite, 0.0) + (entry.mark.est_seconds or 0.0)
    problems = []
    for suite, seconds in sums.items():
        table = config.suites.get(suite)
        limit = min(table.file_seconds, table.total_seconds) if table else seconds
        if seconds > limit:
            message = (
                f"est_seconds is {seconds:g} in all, but suite {suite!r} ends a file after "
                f"{limit:g} s: split the file, or raise file-seconds"
            )
            problems.append(Problem(path, reading.entries[0].mark.line, "too-long", message))
    return problems
