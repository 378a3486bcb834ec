"""The kit itself: kernels with one mistake are caught by the check that is made for it, and the
same kernels without the mistake pass."""

from __future__ import annotations

import pytest
from tests.fakes.kit import candidate, caught_by, failures, target_of
from tests.fakes.mutants import MUTANTS, RIGHT

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="conformance", est_seconds=35)

EVERY = [(op, name) for op, mutants in MUTANTS.items() for name in mutants]


@pytest.mark.parametrize(("op", "name"), EVERY)
def test_a_mutant_is_caught(op, name):
    factory, check = MUTANTS[op][name]
    assert caught_by(check, target_of(candidate(op, factory)), op=op)


@pytest.mark.parametrize("op", RIGHT)
def test_the_kernel_without_a_mistake_passes(op):
    found = failures(target_of(candidate(op, RIGHT[op])), op=op)
    assert {id: failure.message for id, failure in found} == {}
