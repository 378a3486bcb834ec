"""Reads what the pytest plugin reported of one file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Report:
    """running: the test that had started but not ended. seconds: by name, without parameters."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    running: str = ""
    seconds: dict[str, float] = field(default_factory=dict)


def read_report(path: Path) -> Report:
    report = Report()
    outcomes: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue  # the last line of a process that was killed while it wrote
        test = event["test"]
        if event["event"] == "start":
            report.running = test
        elif event["event"] == "finish":
            report.running = "" if report.running == test else report.running
        else:
            name = name_of(test)
            report.seconds[name] = report.seconds.get(name, 0.0) + event["seconds"]
            if event["outcome"] != "passed" or test not in outcomes:
                outcomes[test] = event["outcome"]
    found = list(outcomes.values())
    report.passed, report.failed, report.skipped = map(found.count, ("passed", "failed", "skipped"))
    return report


def name_of(nodeid: str) -> str:
    """ "TestX::test_y" of "tests/test_a.py::TestX::test_y[1-2]"."""
    return "::".join(nodeid.split("[", 1)[0].split("::")[1:])


def by_scope(report: Report, scopes: Iterable[str], wall: float) -> dict[str, float]:
    """Seconds by the mark that covers each test; what belongs to none is the first mark's.

    scopes: as `Entry.scope`. The sum is `wall`: imports and collection go to the first one.
    """
    names = list(scopes)
    seconds = dict.fromkeys(names, 0.0)
    for test, spent in report.seconds.items():
        around = [n for n in names if n == "" or test == n or test.startswith(f"{n}::")]
        if around:
            seconds[max(around, key=len)] += spent
    if names:
        seconds[names[0]] += max(0.0, wall - sum(seconds.values()))
    return seconds
