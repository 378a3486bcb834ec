"""Whether decode steps are captured, with the reason where they are not."""

from __future__ import annotations

import pytest

from inferplane.errors import UserError
from inferplane.planning.plan import make_plan
from inferplane.settings import Settings

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=3)


def plan(**settings: object):
    return make_plan(Settings(model="tiny-arithmetic", device="cpu", **settings))


def test_a_device_without_capture_says_so():
    effective = plan().effective
    assert effective["graphs"] is False
    assert "offers no graph capture" in effective.values["graphs"].source


def test_asking_for_them_there_is_an_error():
    with pytest.raises(UserError, match=r"--graphs was asked for, but .* offers no graph capture"):
        plan(graphs=True)


def test_refusing_them_is_not():
    made = plan(graphs=False)
    assert made.graph is None
    assert made.effective.values["graphs"].source == "argument"
