"""Which pages of a sparse group go first."""

from __future__ import annotations

import numpy as np
import pytest

from inferplane.cache.node import Node
from inferplane.cache.thinned import Thinned

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)

EVERY = np.arange(8)


def thinned(*priorities: int) -> Thinned:
    """Each node holds two pages: 0 and 1, 2 and 3, and so on."""
    made = Thinned(8)
    for at, priority in enumerate(priorities):
        rows = np.array([[2 * at, 2 * at + 1]], dtype=np.int32)
        made.add([Node(b"", None, 1)], rows, np.ones(1, dtype=bool), priority, at)
    return made


def first(made: Thinned, count: int, idle: np.ndarray = EVERY) -> list[int]:
    return sorted(made.first(idle, count).tolist())


def test_a_page_that_was_never_kept_goes_before_one_that_was():
    made = thinned(0, 0, 0, 0)
    made.keep(np.array([0, 1, 2, 3, 6, 7]), 0, 5)
    assert first(made, 2) == [4, 5]


def test_of_those_that_were_kept_the_oldest_go_first():
    made = thinned(0, 0, 0, 0)
    for now, pages in enumerate(([6, 7], [0, 1], [4, 5], [2, 3]), 1):
        made.keep(np.array(pages), 0, now)
    assert first(made, 4) == [0, 1, 6, 7]


def test_of_those_that_were_not_deep_ones_go_first():
    made, node = Thinned(8), Node(b"", None, 1)
    path = [node := Node(b"", node, 1) for _ in range(8)]
    rows = np.array([[3], [5], [0], [1], [7], [2], [6], [4]], dtype=np.int32)
    made.add(path, rows, np.ones(8, dtype=bool), 0, 50)
    assert first(made, 3) == [2, 4, 6]


def test_and_of_one_depth_the_oldest():
    made = thinned(0, 0, 0, 0)
    assert first(made, 2) == [0, 1]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 0), (-(1 << 40), 1 << 40)])
def test_a_low_priority_goes_before_age(low, high):
    made = thinned(high, low, high, high)
    made.keep(np.array([2, 3]), low, 100)
    assert first(made, 2) == [2, 3]


def test_a_page_that_is_used_anew_was_never_kept():
    made = thinned(0, 0, 0, 0)
    made.keep(EVERY, 0, 5)
    made.add([Node(b"", None, 1)], np.array([[3]], np.int32), np.ones(1, dtype=bool), 0, 9)
    assert first(made, 1) == [3]


def test_only_idle_pages_go():
    made = thinned(0, 0, 0, 0)
    assert first(made, 99, np.array([2, 5])) == [2, 5]
    assert first(made, 0) == []


def test_every_page_knows_its_node():
    made = Thinned(8)
    nodes = [Node(b"", None, 1) for _ in range(3)]
    rows = np.array([[0, 1], [2, 3], [4, 5]], dtype=np.int32)
    made.add(nodes, rows, np.array([True, False, True]), 0, 1)
    assert made.owners.tolist() == [nodes[0]] * 2 + [None] * 2 + [nodes[2]] * 2 + [None] * 2
