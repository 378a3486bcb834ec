"""32-bit indices only."""

from __future__ import annotations

import pytest
import torch
from inferplane_sim.errors import SimIndexError

pytestmark = pytest.mark.ci(platforms=["sim"], suite="plugins", est_seconds=3)

CALLS = {
    "index": lambda x, i: x[i],
    "index_put": lambda x, i: x.index_put((i,), torch.ones(4, device="sim")),
    "index_put_": lambda x, i: x.__setitem__(i, 1.0),
    "index_select": lambda x, i: x.index_select(0, i),
    "index_copy": lambda x, i: x.index_copy(0, i, torch.ones(2, 4, device="sim")),
    "index_add": lambda x, i: x.index_add(0, i, torch.ones(2, 4, device="sim")),
    "index_fill": lambda x, i: x.index_fill(0, i, 3.0),
    "gather": lambda x, i: x.gather(0, i[:, None]),
    "scatter": lambda x, i: x.scatter(0, i[:, None], 1.0),
    "scatter_add": lambda x, i: x.scatter_add(0, i[:, None], torch.ones(2, 1, device="sim")),
    "embedding": lambda x, i: torch.nn.functional.embedding(i, x),
    "take": lambda x, i: x.take(i),
}


@pytest.mark.parametrize("name", CALLS)
def test_int64_is_refused_and_named(sim, name):
    x = torch.zeros(3, 4, device="sim")
    index = torch.tensor([0, 2], device="sim")
    with pytest.raises(SimIndexError, match=f"aten::{name}.*int64"):
        CALLS[name](x, index)


@pytest.mark.parametrize("name", CALLS)
def test_int32_gives_what_the_host_gives(start, values, name):
    start()
    x = values(3, 4)
    index = torch.tensor([0, 2])
    given = CALLS[name](x.to("sim"), index.to("sim", torch.int32))
    start(profile="h100")
    wide = CALLS[name](x.to("sim"), index.to("sim"))
    assert given is wide is None or torch.equal(given.cpu(), wide.cpu())


def test_a_list_of_rows_is_int64_too(sim):
    with pytest.raises(SimIndexError):
        torch.zeros(3, 4, device="sim")[[0, 1]]


def test_a_host_index_is_refused_as_it_would_be_moved(sim):
    with pytest.raises((SimIndexError, RuntimeError)):
        torch.zeros(3, 4, device="sim")[torch.tensor([0, 1])]


def test_masks_and_slices_need_no_index(sim):
    x = torch.arange(4.0, device="sim")
    assert x[x > 1].tolist() == [2.0, 3.0]
    assert x[1:3].tolist() == [1.0, 2.0]


def test_int64_arithmetic_is_allowed(sim):
    x = torch.tensor([1 << 40], device="sim")
    assert (x * 2).tolist() == [1 << 41]
