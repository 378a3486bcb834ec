"""AITER's norms, emulated with their real signatures, by the reference (V2e)."""

from __future__ import annotations

import pytest
import torch
from inferplane_rocm import ops

from inferplane.reference.norm import add_rms_norm, rms_norm
from inferplane.spec import DeviceProps, NormRequest

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=2)

PROPS = DeviceProps(name="a", profile="a", memory_bytes=1, dtypes={"bf16"})


def request(op: str) -> NormRequest:
    return NormRequest(op=op, device=PROPS, size=64, dtype="bf16", eps=1e-5)


@pytest.mark.parametrize("shape", [(5, 64), (3, 4, 64), (1, 64)])
def test_a_norm_over_the_last_axis(shape, aiter):
    x, weight = torch.randn(shape).bfloat16(), torch.randn(64).bfloat16()
    expected = rms_norm(request("norm.rms"))(x, weight)
    found = ops.rms_norm(request("norm.rms"))(x, weight)
    torch.testing.assert_close(found, expected, atol=2e-2, rtol=2e-2)


def test_a_norm_of_a_sum_gives_the_sum_too(aiter):
    x, residual, weight = (torch.randn(s).bfloat16() for s in ((5, 64), (5, 64), (64,)))
    expected = add_rms_norm(request("norm.add_rms"))(x.clone(), residual.clone(), weight)
    found = ops.add_rms_norm(request("norm.add_rms"))(x, residual, weight)
    torch.testing.assert_close(found, expected, atol=2e-2, rtol=2e-2)
