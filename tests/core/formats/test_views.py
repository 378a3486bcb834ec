"""Views of stored tensors."""

import pytest
import torch

from inferplane.formats.views import cut, view
from inferplane.spec import WeightPart

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)


def test_deinterleave_puts_even_rows_first():
    rows = torch.arange(6)[None, :, None].expand(2, 6, 3)
    assert view(rows, ("deinterleave",))[1, :, 0].tolist() == [0, 2, 4, 1, 3, 5]
    assert view(rows[..., 0], ("deinterleave",))[0].tolist() == [0, 2, 4, 1, 3, 5]


def test_a_projection_is_cut_into_heads_and_rows():
    stored = torch.arange(2 * 5 * 3).view(10, 3)
    heads = view(stored, ("split:2", "rows:1:4", "transpose"))
    assert heads.shape == (2, 3, 3)
    assert torch.equal(heads[1].T, stored[6:9])


def test_an_unknown_view_is_an_error():
    with pytest.raises(ValueError, match="no view 'turn'"):
        view(torch.zeros(2, 2), ("turn",))


def test_a_cut_is_the_rank_s_slice():
    part = WeightPart(name="x", key="x.weight", full_shape=(4, 6), offset=(2, 3), shape=(2, 3))
    assert torch.equal(cut(torch.arange(24).view(4, 6), part), torch.arange(24).view(4, 6)[2:, 3:])
