"""Tolerances: wide enough for a right kernel, too narrow for sums in a half type."""

from __future__ import annotations

import pytest

from inferplane.testing.conformance.suites import OPS_WITH_SUITES
from inferplane.testing.conformance.tolerances import ROUNDINGS, UNIT, bound

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="conformance", est_seconds=1)


@pytest.mark.parametrize("op", OPS_WITH_SUITES)
def test_every_op_has_a_bound_with_its_reason(op):
    roundings, reason = ROUNDINGS[op]
    assert roundings > 0
    assert reason


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_a_longer_sum_may_be_further_off(dtype):
    assert bound("linear", dtype, 4096) > bound("linear", dtype, 64) > 2 * UNIT[dtype]


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_the_growth_of_a_sum_is_that_of_fp32_whatever_the_dtype(dtype):
    growth = bound("linear", dtype, 4096) - bound("linear", dtype, 0)
    assert growth == pytest.approx(8 * 64 * UNIT["fp32"])
