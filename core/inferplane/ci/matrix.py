"""The matrix for GitHub Actions: one row for each platform, suite, part and Python version."""

from __future__ import annotations

import math
import shlex
from collections.abc import Collection
from typing import Any

from inferplane.errors import UserError

from .partition import load, partition, parts_for
from .platforms import Platform
from .registry import Registry

MOST_ROWS = 256  # GitHub's limit for one matrix
SETUP_MINUTES = 20
ALL = "all"
NONE = "none"


def matrix(registry: Registry, nightly: bool = False) -> list[dict[str, Any]]:
    """Rows for every platform that is installed or declared, where a suite has tests for it."""
    rows = []
    for platform in registry.platforms.values():
        if platform.runs_on:
            for suite in registry.config.suites:
                rows += _rows(registry, platform, suite, nightly)
    return rows


def _rows(
    registry: Registry, platform: Platform, suite: str, nightly: bool
) -> list[dict[str, Any]]:
    jobs = registry.jobs(suite, platform.name, nightly)
    if not jobs:
        return []
    table = registry.config.suites[suite]
    parts = partition(jobs, parts_for(jobs, table.part_seconds))
    return [
        {
            "platform": platform.name,
            "suite": suite,
            "part": index,
            "parts": len(parts),
            "runs-on": list(platform.runs_on),
            "python": python,
            "est_seconds": round(load(part), 1),
            "hardware": platform.hardware,
            "nightly": nightly,
            "install": shlex.join(platform.install),
            "timeout-minutes": math.ceil(table.total_seconds / 60) + SETUP_MINUTES,
        }
        for python in platform.python
        for index, part in enumerate(parts, 1)
    ]


def with_runners(
    rows: list[dict[str, Any]], runners: Collection[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(rows that can run, rows that wait). runners: platforms whose runner exists, or "all"."""
    if ALL in runners:
        return rows, []
    ready = [row for row in rows if not row["hardware"] or row["platform"] in runners]
    return ready, [row for row in rows if row not in ready]


def check_size(rows: list[dict[str, Any]]) -> None:
    """Raises UserError where GitHub would refuse the matrix."""
    if len(rows) > MOST_ROWS:
        raise UserError(
            f"the matrix has {len(rows)} rows, and GitHub takes {MOST_ROWS}: raise part-seconds "
            "of the largest suites, or give --suite or --platform"
        )
