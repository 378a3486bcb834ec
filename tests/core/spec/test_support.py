"""Supported, or not because of something."""

from __future__ import annotations

import pytest

from inferplane.spec import Probe, Support

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=1)


def test_yes_is_true():
    assert Support.yes()


def test_no_is_false_and_keeps_its_reason():
    answer = Support.no("head size is 7", instead="x.other")
    assert not answer
    assert (answer.reason, answer.instead) == ("head size is 7", "x.other")


@pytest.mark.parametrize("reason", ["", "  "])
def test_no_needs_a_reason(reason):
    with pytest.raises(ValueError, match="needs a reason"):
        Support.no(reason)


@pytest.mark.parametrize("reason", ["", "\n"])
def test_a_missing_device_needs_a_reason(reason):
    with pytest.raises(ValueError, match="needs a reason"):
        Probe.missing(reason)
