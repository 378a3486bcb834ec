"""Blocks and layers: right ones pass, and ones with a mistake are caught."""

from __future__ import annotations

import pytest
import torch.nn.functional as F
from tests.fakes import kernels
from tests.fakes.kit import candidate, caught_by, failures, results, target_of

from inferplane.spec import Support

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="conformance", est_seconds=6)


def with_qk_norm(request):
    """The fakes always norm q and k, turn whole heads, and have no biases."""
    block = request
    if request.op == "layer":
        block = next(part for part in request.parts if part.op == "attention.block")
    if block.input.qk_norm is None:
        return Support.no("it norms q and k")
    return with_dtype(block.qkv)


def with_dtype(request):
    dtype = getattr(request, "dtype", None) or request.gate_up.dtype
    return Support.yes() if dtype == "fp32" else Support.no(f"dtype is {dtype}, it has fp32")


KINDS = {
    "mlp.block": (kernels.MLP, with_dtype, {"silu"}, "block"),
    "attention.block": (kernels.Attention, with_qk_norm, {"qk_norm", "window"}, "block"),
    "layer": (kernels.Layer, with_qk_norm, {"qk_norm", "silu", "window"}, "layer"),
}


def target(op: str, kind=None, **fields):
    right, answer, features, level = KINDS[op]
    given = {"supports": answer, "features": frozenset(features), "level": level} | fields
    return target_of(candidate(op, kind or right, **given))


@pytest.mark.parametrize("op", KINDS)
def test_a_right_kernel_passes(op):
    found = list(failures(target(op), op=op))
    assert found == []


@pytest.mark.parametrize("op", KINDS)
def test_cases_were_really_run(op):
    ran = [r for r in results(target(op), op=op) if r.status == "passed" and r.error is not None]
    assert len(ran) >= 2


class GeluMLP(kernels.MLP):
    def __call__(self, x_TC, packed):
        gate, up = F.linear(x_TC, packed.data["gate_up_proj"]).chunk(2, dim=-1)
        return F.linear(F.gelu(gate) * up, packed.data["down_proj"])


class WritesX(kernels.MLP):
    def __call__(self, x_TC, packed):
        y_TC = super().__call__(x_TC, packed)
        x_TC.copy_(y_TC)
        return y_TC


class ForgetsKeys(kernels.Attention):
    """The cache gets no keys of the step."""

    def __call__(self, x_TC, step, slot, packed):
        kept = slot.cache[:, :, 0].clone()
        y_TC = super().__call__(x_TC, step, slot, packed)
        slot.cache[:, :, 0] = kept
        return y_TC


class LosesResidual(kernels.Layer):
    def __call__(self, x_TC, residual_TC, step, slot, packed):
        return super().__call__(x_TC, None, step, slot, packed)


@pytest.mark.parametrize(
    ("op", "kind", "check"),
    [
        ("mlp.block", GeluMLP, "parity"),
        ("mlp.block", WritesX, "mutates"),
        ("attention.block", ForgetsKeys, "parity"),
        ("layer", LosesResidual, "parity"),
    ],
)
def test_a_mutant_is_caught(op, kind, check):
    assert caught_by(check, target(op, kind), op=op)


def test_a_block_that_ignores_a_bias_which_it_names_is_caught():
    assert caught_by("parity", target("mlp.block", features=frozenset({"silu", "bias"})))


def test_a_block_that_does_not_name_biases_is_not_asked_for_them():
    found = {r.case.name: r for r in results(target("mlp.block"), op="mlp.block")}
    assert found["bias.fp32"].status == "refused"
    assert "bias" in found["bias.fp32"].note
