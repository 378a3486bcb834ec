"""Guards, comparison by bits, and errors."""

from __future__ import annotations

import pytest
import torch

from inferplane.testing.conformance.tensors import Guarded, error, same, worst

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="conformance", est_seconds=1)

HOST = torch.device("cpu")
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_a_write_on_either_side_is_seen(dtype):
    for at in (127, 131):
        guarded = Guarded.around(torch.zeros(3, 2, dtype=dtype), HOST)
        assert guarded.outside_is_whole()
        guarded.view.fill_(1)
        assert guarded.outside_is_whole()
        guarded.whole[at] = 0
        assert not guarded.outside_is_whole()


def test_values_before_and_now():
    guarded = Guarded.around(torch.ones(3), HOST)
    guarded.view.add_(1)
    assert guarded.before().tolist() == [1, 1, 1]
    assert guarded.now().tolist() == [2, 2, 2]


def test_same_is_by_bits():
    assert same(torch.tensor([NAN, 1.0]), torch.tensor([NAN, 1.0]))
    assert not same(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert not same(torch.zeros(2), torch.zeros(2, 1))
    assert not same(torch.zeros(2), torch.zeros(2, dtype=torch.float64))


@pytest.mark.parametrize(
    ("found", "right", "share"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, 2.1], [1.0, 2.0], 0.05),
        ([0.1, 0.0], [0.0, 0.0], 0.1),
        ([NAN, 1.0], [NAN, 1.0], 0.0),
        ([NAN, 1.0], [0.0, 1.0], INF),
        ([0.0, 1.0], [NAN, 1.0], INF),
        ([-INF, 1.0], [-INF, 1.0], 0.0),
        ([INF, 1.0], [-INF, 1.0], INF),
    ],
)
def test_an_error_is_a_share_of_the_largest_right_value(found, right, share):
    both = [torch.tensor(x, dtype=torch.float64) for x in (found, right)]
    assert error(*both) == pytest.approx(share)


def test_an_empty_tensor_has_no_error():
    assert error(torch.empty(0), torch.empty(0)) == 0.0


def test_the_place_of_the_largest_error_is_told():
    found = torch.tensor([[1.0, 2.0], [NAN, 4.0]])
    assert worst(found, torch.tensor([[1.0, 2.0], [3.0, 4.0]])) == "at (1, 0) it is nan, not 3"
