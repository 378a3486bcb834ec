"""Which reasons are good ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.fakes.plugins import PROPS, candidate

from inferplane.authoring.answers import ask_all
from inferplane.authoring.isolation import Blocker, Recorder
from inferplane.spec import Support

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=1)

LINKED = replace(PROPS, details=(("links", "pcie"),))


@pytest.mark.parametrize(
    ("reason", "good"),
    [
        ("size is 8, it has 64", True),
        ("fastlib is not installed: pip install fastlib", True),
        ("links are pcie, it needs others", True),
        ("this cannot be done here", False),
        ("no", False),
    ],
)
def test_a_reason_names_the_request_or_what_is_missing(reason, good):
    refusing = candidate(op="norm.rms", supports=lambda request: Support.no(reason))
    found, answers = ask_all(refusing, LINKED, Blocker(frozenset()), Recorder())
    assert answers
    assert {finding.code for finding in found} == (set() if good else {"IP303"})
