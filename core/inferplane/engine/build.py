"""From settings to a running engine."""

from __future__ import annotations

from inferplane.activity import Activity
from inferplane.errors import UserError
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
        warm_up(plan, executor, executor.activity)
        _check_graphs(plan, executor)
    return Engine(plan, executor)


def _check_graphs(plan: Plan, executor: LocalExecutor) -> None:
    """Graphs that the user asked for, and that could not be captured, are an error."""
    graphs = executor.runner.graphs
    asked = plan.graph and plan.effective.values["graphs"].source != plan.graph.candidate.name
    if graphs is not None and graphs.failed and asked:
        raise UserError(f"--graphs was asked for, but a step was not captured: {graphs.failed}")
