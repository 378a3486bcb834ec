"""From settings to a running engine."""

from __future__ import annotations

from inferplane.activity import Activity
from inferplane.executor.local import LocalExecutor, Progress
from inferplane.planning.plan import Plan

from .engine import Engine
from .warm_up import warm_up


def build_engine(
    plan: Plan, progress: Progress | None = None, activity: Activity | None = None
) -> Engine:
    """Loads the model on this process's device. Raises UserError for what a user can mend."""
    executor = LocalExecutor(plan, progress, activity)
    if plan.effective["warm_up"]:
        warm_up(plan, executor)
    return Engine(plan, executor)
