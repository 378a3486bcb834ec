"""The reference computes in fp64 where its inputs are."""

from __future__ import annotations

import pytest
import torch
from tests.fakes.plugins import PROPS

from inferplane.reference.norm import rms_norm
from inferplane.reference.wide import wide
from inferplane.spec import NormRequest

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=1)


@pytest.mark.parametrize(
    ("given", "computed"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_types(given, computed):
    assert wide(torch.ones(1, dtype=given)).dtype == computed


def test_a_norm_in_fp64_is_as_exact_as_fp64():
    x = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    request = NormRequest(device=PROPS, size=3, dtype="fp64", eps=0.0)
    found = rms_norm(request)(x, torch.ones(3, dtype=torch.float64))
    assert torch.allclose(found, x / (14 / 3) ** 0.5, rtol=1e-15, atol=0)
