"""From settings to a running engine."""

from __future__ import annotations

from inferplane.activity import Activity
from inferplane.executor.local import LocalExecutor, Progress
from inferplane.planning.plan import Plan

from .engine import Engine


def build_engine(
    plan: Plan, progress: Progress | None = None, activity: Activity | None = None
) -> Engine:
    """Loads the model on this process's device. Raises UserError for what a user can mend."""
    return Engine(plan, LocalExecutor(plan, progress, activity))
