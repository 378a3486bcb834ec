"""Every command of the tutorial that ends by itself, in order, in a new environment."""

from __future__ import annotations

import re
import shlex

import pytest
from tests.plugins.conftest import ROOT

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=30)

TUTORIAL = (ROOT / "docs" / "plugins" / "tutorial.md").read_text()
COMMANDS = re.findall(r"^\$ (.*)$", TUTORIAL, flags=re.MULTILINE)


def test_the_commands_of_the_tutorial_work(fresh):
    assert COMMANDS[0] == "inferplane plugin new acme"
    said = {}
    for command in COMMANDS:
        said[command] = fresh.run(*shlex.split(command)).stdout
        if command == COMMANDS[0]:
            fresh.install(fresh.home / "inferplane-acme")
    by_start = {c: next(t for full, t in said.items() if full.startswith(c)) for c in STARTS}
    for start, text in STARTS.items():
        assert text in by_start[start]


STARTS = {
    "inferplane devices": "acme",
    "inferplane generate": "703",
    "inferplane explain tiny-arithmetic --device acme --target": "planning for",
    "inferplane plugin check": "nothing found",
    "inferplane plugin show": "acme.add_rms_norm",
    "python": "mutates=('x_TC', 'residual_TC')",
}


def test_the_example_has_the_files_that_the_tutorial_lists():
    listed = re.findall(r"`inferplane_acme/(\w+\.py)`", TUTORIAL)
    package = ROOT / "plugins" / "example" / "inferplane_example"
    assert {p.name for p in package.glob("*.py")} - {"__init__.py"} == set(listed)
