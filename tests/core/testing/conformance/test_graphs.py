"""Graph replay, over a back-end that records operations and refuses what a real one would."""

from __future__ import annotations

import pytest
import torch
from tests.fakes.kit import candidate, caught_by, failures, target_of
from tests.fakes.tape import TapeBackend

from inferplane.reference.linear import Linear
from inferplane.reference.norm import rms_norm

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="conformance", est_seconds=2)

GRAPH = candidate("graph", TapeBackend, name="mutant.tape")


def allocates(request):
    right = rms_norm(request)

    def run(x, weight):
        return torch.zeros_like(x) + right(x, weight)

    return run


def decides_on_the_host(request):
    """Its second call differs from the first: replay repeats what was recorded."""
    right, calls = rms_norm(request), [0]

    def run(x, weight):
        calls[0] += 1
        return right(x, weight) * (1 + calls[0] % 2)

    return run


@pytest.mark.parametrize("factory", [allocates, decides_on_the_host])
def test_a_kernel_that_cannot_be_replayed_is_caught(factory):
    target = target_of(candidate("norm.rms", factory, capture="all"), GRAPH)
    assert caught_by("graph", target, areas=("graphs",))


@pytest.mark.parametrize(("op", "factory"), [("norm.rms", rms_norm), ("linear", Linear)])
def test_one_that_can_passes(op, factory):
    target = target_of(candidate(op, factory, capture="all"), GRAPH)
    assert list(failures(target, areas=("graphs",))) == []


def test_a_kernel_that_takes_no_part_in_graphs_is_not_captured():
    target = target_of(candidate("norm.rms", allocates, capture="none"), GRAPH)
    assert list(failures(target, areas=("graphs",))) == []


def test_a_back_end_that_replays_nothing_is_caught():
    class Nothing(TapeBackend):
        def capture(self, run):
            super().capture(run)
            return type("Handle", (), {"replay": lambda self: None})()

    target = target_of(candidate("graph", Nothing, name="mutant.tape"))
    assert caught_by("graph", target, areas=("graphs",))
