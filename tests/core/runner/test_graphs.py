"""Numbers of rows that are captured, and graphs that cannot be."""

from __future__ import annotations

import pytest
import torch

from inferplane.runner.graphs import DecodeGraphs, buckets
from inferplane.spec import Step

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)


@pytest.mark.parametrize("most", [1, 2, 3, 4, 7, 64, 100, 256, 1000])
def test_every_number_of_rows_has_a_graph_that_is_not_much_larger(most):
    sizes = buckets(most)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == most
    for rows in range(1, most + 1):
        size = next(size for size in sizes if size >= rows)
        assert size - rows < max(4, rows)


class Backend:
    """Keeps what it is given. fails: refuses to capture."""

    def __init__(self, fails: bool = False) -> None:
        self.fails, self.captures = fails, 0

    def capture(self, run):
        if self.fails:
            raise RuntimeError("out of pool memory")
        self.captures += 1
        return type("Handle", (), {"replay": staticmethod(run)})()


def step(rows: int) -> Step:
    tokens = torch.arange(rows)
    return Step(tokens_T=tokens, positions_T=tokens.clone(), groups=[])


def compute(step: Step) -> torch.Tensor:
    return torch.stack([step.tokens_T, step.positions_T], dim=1).float()


def test_a_replay_reads_what_was_filled_in_since():
    graphs = DecodeGraphs(Backend(), compute, [1, 2, 4], torch.device("cpu"))
    assert graphs.size(3) == 4
    assert graphs.step(4) is None
    first = step(4)
    assert torch.equal(graphs.capture(first), compute(first))
    assert graphs.step(4) is first
    first.tokens_T.fill_(9)
    assert torch.equal(graphs.replay(4), compute(first))
    assert graphs.replays == 1


def test_more_rows_than_any_graph_has_none():
    assert DecodeGraphs(Backend(), compute, [1, 2], torch.device("cpu")).size(3) == 0


def test_a_capture_that_fails_is_the_last_and_still_gives_logits(caplog):
    graphs = DecodeGraphs(Backend(fails=True), compute, [1, 2], torch.device("cpu"))
    asked = step(2)
    assert torch.equal(graphs.capture(asked), compute(asked))
    assert "out of pool memory" in graphs.failed
    assert "graphs are off" in caplog.text
    assert graphs.size(1) == 0
