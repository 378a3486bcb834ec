"""Sources, entry points and configuration for tests of the CI registry."""

from __future__ import annotations

from typing import Any, NamedTuple

CONFIG = """
[tool.inferplane-ci.suites.unit]
platforms = ["cpu"]
file-seconds = 60
part-seconds = 10
[tool.inferplane-ci.suites.device]
[tool.inferplane-ci.platforms.abacus]
"""


class Entry(NamedTuple):
    """An entry point, as far as the registry looks at it."""

    name: str
    value: str


def installed(*names: str, group: str = "inferplane.v0") -> list[tuple[Any, str, str, str]]:
    """Entry points of the core's cpu, and of one distribution for each other name."""
    found: list[tuple[Any, str, str, str]] = [
        (Entry("cpu", "inferplane.platforms.cpu.plugin"), "inferplane.v0", "inferplane", "0.1")
    ]
    for name in names:
        entry = Entry(name, f"no_module_{name}.plugin")
        found.append((entry, group, f"inferplane-{name}", "1.0"))
    return found


def mark(**arguments: Any) -> str:
    """The source of a mark."""
    inside = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return f"pytest.mark.ci({inside})"


def source(body: str = "def test_a(): pass\n", **arguments: Any) -> str:
    """A test file with a module mark."""
    values = {"suite": "unit", "est_seconds": 1} | arguments
    return f"import pytest\n\npytestmark = {mark(**values)}\n\n{body}"
