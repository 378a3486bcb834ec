"""Timing, and what becomes of kernels that cannot be timed."""

from __future__ import annotations

import pytest
from tests.fakes.plugins import PROPS
from tests.fakes.tunable import FakeTunable, candidate

from inferplane.cli.measuring import Subject, load, measure, timed
from inferplane.errors import UserError
from inferplane.spec import Device, NormRequest

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)

REQUEST = NormRequest(device=PROPS, size=64, dtype="fp32", eps=1e-6)


class Clock:
    """Time that passes only when a call is made, or waited for."""

    def __init__(self) -> None:
        self.now, self.calls, self.waits = 0.0, 0, 0

    def call(self) -> None:
        self.calls += 1
        self.now += 0.003

    def synchronize(self) -> None:
        self.waits += 1
        self.now += 0.001

    def __call__(self) -> float:
        return self.now


def test_the_time_of_one_call_is_the_mean_of_a_round_that_ends_when_the_device_is_done():
    clock = Clock()
    # 2 calls fill a round of 10 ms; the wait at its end is shared by them
    assert timed(clock.call, clock.synchronize, clock) == pytest.approx((2 * 0.003 + 0.001) / 2)
    assert clock.calls == 2 + 5 * 2


def test_a_kernel_that_runs_in_no_configuration_is_an_error_with_the_reason():
    class Broken(FakeTunable):
        def configurations(self, request, case):
            return [{"work": -1}]

    subject = Subject(candidate(), Broken(), REQUEST, "prefill")
    with pytest.raises(UserError, match="too much shared memory"):
        list(measure(subject, Device("cpu", PROPS)))


def test_a_tunable_that_cannot_be_loaded_is_an_error_that_names_the_kernel():
    with pytest.raises(UserError, match=r"tuned\.kernel says that nowhere:x"):
        load(candidate(tunable="nowhere:x"))
