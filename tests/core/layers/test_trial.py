"""The first call of a kernel, at load: its shape, and who is named when it fails."""

from __future__ import annotations

import pytest
import torch
from tests.fakes.plugins import PROPS, candidate

from inferplane.layers.context import BuildContext
from inferplane.layers.trial import trial
from inferplane.plugins.errors import KernelFailed
from inferplane.spec import (
    ActivationRequest,
    EmbeddingRequest,
    LinearRequest,
    NormRequest,
    Packed,
    RotaryRequest,
    TokenRange,
    standard_layout,
)

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=3)

CPU = torch.device("cpu")
PACKED = Packed(data=None, final_bytes=0)
NORM = NormRequest(device=PROPS, size=8, dtype="fp32", eps=1e-6)
ADD = NormRequest(op="norm.add_rms", device=PROPS, size=8, dtype="fp32", eps=1e-6)
ACT = ActivationRequest(device=PROPS, size=8, dtype="fp32")
LINEAR = LinearRequest(device=PROPS, in_features=8, out_features=5, dtype="fp32")
EMBED = EmbeddingRequest(device=PROPS, vocab=9, size=8, dtype="fp32")

GOOD = {
    "norm": (NORM, lambda x, w: x * w),
    "add norm": (ADD, lambda x, r, w: ((x + r) * w, x + r)),
    "activation": (ACT, lambda x: x[:, :8]),
    "linear": (LINEAR, lambda x, packed: x[:, :5]),
    "embedding": (EMBED, lambda ids, packed: torch.zeros(len(ids), 8)),
    "rows of a range": (NORM.over(TokenRange(17, 64)), lambda x, w: x.view(17, 8)),
}
BAD = {
    "a column too few": (NORM, lambda x, w: x[:, 1:], r"returned \[1, 7\]; .* says \[1, 8\]"),
    "one result of two": (ADD, lambda x, r, w: x, r"returned \[1, 8\]; .*\[1, 8\], \[1, 8\]"),
    "both halves": (ACT, lambda x: x, r"returned \[1, 16\]; .* says \[1, 8\]"),
    "inputs": (LINEAR, lambda x, packed: x, r"returned \[1, 8\]; .* says \[1, 5\]"),
    "nothing": (NORM, lambda x, w: None, r"returned NoneType; .* says \[1, 8\]"),
    "an error": (NORM, lambda x, w: 1 / 0, r"first call, with \[1, 8\], \[8\], raised ZeroDiv"),
}


@pytest.mark.parametrize(("request_", "kernel"), GOOD.values(), ids=GOOD)
def test_a_right_kernel_passes(request_, kernel):
    trial(candidate(), request_, kernel, CPU, PACKED)


@pytest.mark.parametrize(("request_", "kernel", "says"), BAD.values(), ids=BAD)
def test_a_wrong_kernel_is_named(request_, kernel, says):
    with pytest.raises(KernelFailed, match=says) as caught:
        trial(candidate("acme.fast"), request_, kernel, CPU, PACKED)
    assert "kernel acme.fast of plugin 'acme'" in str(caught.value)


def test_the_error_says_how_to_go_on():
    with pytest.raises(KernelFailed, match=r"--kernel 'norm\.rms!=acme\.fast'"):
        trial(candidate("acme.fast", op="norm.rms"), NORM, lambda x, w: None, CPU)


def test_an_op_that_needs_a_cache_is_not_tried():
    request = RotaryRequest(
        device=PROPS, heads=2, kv_heads=1, head_dim=8, rotary_dim=8, dtype="fp32"
    )
    trial(candidate(), request, None, CPU)


def test_a_kernel_for_very_many_rows_is_not_tried():
    trial(candidate(), NORM.over(TokenRange(1 << 20)), None, CPU)


def test_equal_requests_are_tried_once():
    context = BuildContext(PROPS, "fp32", "fp32", 16, standard_layout, device=CPU)
    calls = []
    for _ in range(3):
        context.trial(candidate(), NORM, lambda x, w: calls.append(1) or x)
    assert calls == [1]
