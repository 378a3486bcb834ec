"""Page tables of the kit's batches are what a runner would make."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferplane.testing.conformance.paging import lay_out

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="conformance", est_seconds=4)

ROWS = st.lists(st.tuples(st.integers(0, 70), st.integers(1, 40)), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rows=ROWS,
    page=st.sampled_from([1, 4, 16]),
    style=st.sampled_from(["runs", "scattered", "shared"]),
    window=st.sampled_from([0, 1, 5, 16, 33]),
)
def test_every_token_has_a_cell_of_its_own(rows, page, style, window):
    pages = lay_out(rows, page, style, window, np.random.default_rng(0))
    assert len(set(pages.slots.tolist())) == len(pages.slots) == sum(new for _, new in rows)
    assert pages.slots.min() >= page  # page 0 belongs to nobody
    assert pages.slots.max() < pages.pool * page
    assert int(pages.written().sum()) == len(pages.slots)
    assert not bool((pages.written() & ~pages.held()).any())
    for row, (before, new) in enumerate(rows):
        first = max(0, before - window + 1) if window else 0
        read = pages.table[row, first // page : -(-(before + new) // page)]
        assert (read >= 0).all()


def test_shared_prefixes_have_pages_in_common():
    pages = lay_out([(9, 1), (8, 2)], 4, "shared", 0, np.random.default_rng(0))
    assert pages.table[0, :2].tolist() == pages.table[1, :2].tolist()
    assert pages.table[0, 2] != pages.table[1, 2]


def test_pages_before_the_window_are_gone():
    pages = lay_out([(20, 1)], 4, "runs", 6, np.random.default_rng(0))
    assert pages.table[0].tolist()[:3] == [-1, -1, -1]
    assert (pages.table[0, 3:] >= 0).all()
