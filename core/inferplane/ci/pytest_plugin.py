"""Registers the marker `ci` with pytest, and selects and reports tests for `inferplane-ci run`.

It is loaded by every pytest where the core is installed, so it imports next to nothing, and changes
nothing unless an option below is given.
"""

from __future__ import annotations

import faulthandler
import json
import signal
from typing import IO, Any

import pytest

ENTRY_POINT = "inferplane_ci"
MARKER = (
    "ci(platforms, suite, est_seconds, nightly): where and when inferplane-ci runs these tests; "
    "literals only"
)
_PREFIX = "--inferplane-ci-"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("inferplane-ci", "what inferplane-ci run selects")
    group.addoption(f"{_PREFIX}suite", default=None, help="Run tests of this suite only.")
    group.addoption(
        f"{_PREFIX}platform", default=None, help="Run tests for this platform only (and on it)."
    )
    group.addoption(f"{_PREFIX}nightly", action="store_true", help="Run nightly tests too.")
    group.addoption(f"{_PREFIX}report", default=None, help="Append events as JSON lines here.")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)
    path = config.getoption("inferplane_ci_report")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Reporter(path), "inferplane_ci_reporter")


@pytest.fixture(scope="session")
def ci_platform(request: pytest.FixtureRequest) -> str:
    """The name of the platform that this run is for; "cpu" where none was given."""
    return request.config.getoption("inferplane_ci_platform") or "cpu"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    suite = config.getoption("inferplane_ci_suite")
    platform = config.getoption("inferplane_ci_platform")
    if suite is None and platform is None:
        return
    nightly = config.getoption("inferplane_ci_nightly")
    defaults = _default_platforms(config)
    chosen = [item for item in items if _selected(item, suite, platform, nightly, defaults)]
    dropped = [item for item in items if item not in set(chosen)]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = chosen


def _selected(
    item: pytest.Item,
    suite: str | None,
    platform: str | None,
    nightly: bool,
    defaults: dict[str, tuple[str, ...]],
) -> bool:
    """As `Registry.selects`, for the marks that pytest sees. What has no mark is not selected."""
    marks = [mark.kwargs for mark in item.iter_markers("ci")]
    if not marks:
        return False

    def said(name: str, default: Any) -> Any:
        return next((mark[name] for mark in marks if mark.get(name) is not None), default)

    its_suite = said("suite", "")
    platforms = said("platforms", defaults.get(its_suite, ()))
    return (
        (suite is None or its_suite == suite)
        and (platform is None or platform in platforms or "*" in platforms)
        and (nightly or not said("nightly", False))
    )


def _default_platforms(config: pytest.Config) -> dict[str, tuple[str, ...]]:
    """Default platforms of the suites of the project that pytest was started in."""
    from inferplane.errors import UserError

    from .config import find_root, load_config

    try:
        table = load_config(find_root(config.invocation_params.dir))
    except UserError as error:
        raise pytest.UsageError(str(error)) from None
    return {name: suite.platforms for name, suite in table.suites.items()}


class _Reporter:
    """Tells `inferplane-ci run` which test runs, and how long each took. One JSON object a line."""

    def __init__(self, path: str) -> None:
        self.file: IO[str] = open(path, "a", encoding="utf-8")  # noqa: SIM115
        self.stacks: IO[str] = open(stacks_path(path), "w", encoding="utf-8")  # noqa: SIM115
        faulthandler.register(signal.SIGUSR1, file=self.stacks, all_threads=True)

    def tell(self, **event: Any) -> None:
        self.file.write(json.dumps(event) + "\n")
        self.file.flush()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.tell(event="start", test=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.tell(
            event=report.when, test=report.nodeid, outcome=report.outcome, seconds=report.duration
        )

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.tell(event="finish", test=nodeid)

    def pytest_unconfigure(self) -> None:
        faulthandler.unregister(signal.SIGUSR1)
        self.file.close()
        self.stacks.close()


def stacks_path(report: str) -> str:
    """Where the stacks of a run that hangs are written."""
    return f"{report}.stacks"
