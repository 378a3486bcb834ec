"""Linear layers of every scheme: the reference's numbers, edges of shapes, splits, and what mutants
would break."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from batches import error
from inferplane_triton import linear as module
from inferplane_triton import schemes, supports
from inferplane_triton.linear import QuantizedLinear
from inferplane_triton.prepared import operand
from interpreter_platform import PROPS
from quantized import (
    BLOCK_SCALED,
    EIGHT_BITS,
    FNUZ,
    INPUTS_TOO,
    WEIGHT_ONLY,
    Drawn,
    by,
    draw,
    group,
)

from inferplane.reference.linear import Linear as Reference
from inferplane.spec import LinearRequest
from inferplane.spec.quantized import dequantize
from inferplane.spec.torch_types import torch_dtype

FEW = {"block_n": 32, "block_k": 64, "warps": 4, "stages": 1, "waves": 2}
MANY = {"block_m": 32, "block_n": 32, "block_k": 64, "warps": 4, "stages": 1, "abreast": 2}


def both(
    scheme: Any,
    tokens: int = 5,
    sizes: tuple[int, int] = (48, 192),
    parts: tuple[int, ...] = (),
    device: Any = EIGHT_BITS,
    dtype: str = "fp32",
    bias: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(found, right)."""
    rows, inputs = sizes
    r = LinearRequest(
        device=device, in_features=inputs, out_features=rows, dtype=dtype, parts=parts, bias=bias,
        scheme=scheme,
    )  # fmt: skip
    assert supports.linear(r).ok, supports.linear(r)
    tensors = draw(scheme, rows, inputs, parts=len(parts) or 1)
    chance = torch.Generator().manual_seed(1)
    if bias:
        tensors["bias"] = torch.randn(rows, generator=chance).to(torch_dtype(dtype))
    source = Drawn(tensors, parts)
    x = torch.randn(tokens, inputs, generator=chance).to(torch_dtype(dtype))
    kernel, oracle = QuantizedLinear(r, FEW, MANY), Reference(r)
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    found = kernel(x, kernel.prepare(source))
    assert all(
        torch.equal(tensors[n].view(torch.uint8), t.view(torch.uint8)) for n, t in before.items()
    )
    return found, oracle(x, oracle.prepare(source))


def name(scheme: Any) -> str:
    return scheme.name


@pytest.mark.parametrize("scheme", WEIGHT_ONLY, ids=name)
def test_weights_of_every_scheme(scheme):
    found, right = both(scheme)
    assert error(found, right) < 3e-6


@pytest.mark.parametrize("scheme", INPUTS_TOO, ids=name)
def test_inputs_of_every_scheme(mended, scheme):
    found, right = both(scheme)
    assert error(found, right) < 3e-6


@pytest.mark.parametrize("tokens", [1, 70])
@pytest.mark.parametrize(
    "scheme", [group("uint4", 64, zero_point=True), by("int8", "channel", activation="int8")],
    ids=name,
)  # fmt: skip
def test_few_tokens_and_many(scheme, tokens):
    found, right = both(scheme, tokens, bias=True)
    assert error(found, right) < 3e-6


@pytest.mark.parametrize("sizes", [(1, 32), (33, 96), (7, 608)])
@pytest.mark.parametrize("scheme", [group("int4", 32), by("fp8_e4m3", "channel")], ids=name)
def test_sizes_that_fill_no_tile(scheme, sizes):
    found, right = both(scheme, 17, sizes, bias=True)
    assert error(found, right) < 3e-6


def test_inputs_that_end_within_a_step_and_a_block():
    found, right = both(by("fp8_e4m3", "block", block=(16, 64)), sizes=(40, 150))
    assert error(found, right) < 3e-6


def test_no_tokens():
    assert both(group("int4", 32), 0)[0].shape == (0, 48)


@pytest.mark.parametrize(
    "scheme",
    [
        by("fp8_e4m3", "tensor"),
        by("fp8_e4m3", "tensor", activation="fp8_e4m3", dynamic=False),
        group("fp4_e2m1", 16, "fp8_e4m3", global_scale=True),
    ],
    ids=name,
)
def test_parts_have_their_own_scales(mended, scheme):
    found, right = both(scheme, parts=(32, 8, 8))
    assert error(found, right) < 3e-6


@pytest.mark.parametrize("more", [{}, {"activation": "int8"}], ids=["weights", "inputs"])
def test_permuted_inputs(more):
    found, right = both(group("int4", 32, reordered=True, **more))
    assert error(found, right) < 3e-6


@pytest.mark.parametrize("scheme", [group("int4", 32), group("fp4_e2m1", 32, "ue8m0")], ids=name)
@pytest.mark.parametrize(("dtype", "most"), [("fp16", 2e-3), ("bf16", 2e-2)])
def test_half_precision(mended, scheme, dtype, most):
    found, right = both(scheme, dtype=dtype)
    assert error(found, right) < most


@pytest.mark.parametrize("tokens", [3, 65])
@pytest.mark.parametrize(
    "scheme",
    [
        group("fp4_e2m1", 32, "ue8m0"),
        group("fp8_e4m3", 32, "ue8m0"),
        INPUTS_TOO[-2],
        INPUTS_TOO[-1],
    ],
    ids=name,
)
def test_shared_exponents_on_the_devices_own_unit(mended, scheme, tokens):
    found, right = both(scheme, tokens, (40, 256), device=BLOCK_SCALED, dtype="bf16", bias=True)
    assert error(found, right) < 1e-2


MXFP4, MXFP8 = group("fp4_e2m1", 32, "ue8m0"), group("fp8_e4m3", 32, "ue8m0")
NVFP4 = group("fp4_e2m1", 16, "fp8_e4m3", global_scale=True)
IN_WEIGHT = (MXFP4, MXFP8, NVFP4, group("fp4_e2m1", 256, "ue8m0"))


@pytest.mark.parametrize("tokens", [5, 70])
@pytest.mark.parametrize("inputs", [128, 160, 1248])
@pytest.mark.parametrize("scheme", IN_WEIGHT[:3], ids=name)
def test_steps_of_several_groups_and_inputs_that_end_within_a_step(scheme, inputs, tokens):
    found, right = both(scheme, tokens, (33, inputs), bias=True)
    assert error(found, right) < 3e-6


@pytest.mark.parametrize(("dtype", "most"), [("fp32", 3e-6), ("fp16", 2e-3), ("bf16", 2e-2)])
@pytest.mark.parametrize("tokens", [3, 65])
@pytest.mark.parametrize("scheme", IN_WEIGHT, ids=name)
def test_scales_in_weights_in_every_type(mended, scheme, tokens, dtype, most):
    found, right = both(scheme, tokens, (40, 512), parts=(24, 16), dtype=dtype)
    assert error(found, right) < most


def one_input_a_token(
    scheme: Any, dtype: str, lowest: int, highest: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(found, right, exponents [T, N]): token t has 1.25 as input t and no other, so that nothing
    is added up. Exponents of scales are drawn, and are given for each number."""
    rows, inputs = 24, 96
    r = LinearRequest(
        device=EIGHT_BITS, in_features=inputs, out_features=rows, dtype=dtype, scheme=scheme
    )
    tensors, chance = draw(scheme, rows, inputs), torch.Generator().manual_seed(3)
    tensors["weight"] = tensors["weight"].view(torch.uint8)
    codes = torch.arange(tensors["weight"].numel()) % 256
    codes[(codes & 0x7F) == 0x7F] = 0x01  # NaN of e4m3
    tensors["weight"] = codes.to(torch.uint8).view(tensors["weight"].shape)
    tensors["weight"] = tensors["weight"].view(torch_dtype(scheme.storage))
    size = tensors["scale"].shape
    scale = torch.randint(lowest, highest + 1, size, generator=chance, dtype=torch.uint8)
    tensors["scale"] = scale
    source, x = Drawn(tensors), 1.25 * torch.eye(inputs, dtype=torch_dtype(dtype))
    kernel, oracle = QuantizedLinear(r, FEW, MANY), Reference(r)
    found = kernel(x, kernel.prepare(source))
    right = oracle(x, oracle.prepare(source))
    return found, right, scale.int().repeat_interleave(scheme.group, -1).T


@pytest.mark.parametrize(("lowest", "highest"), [(0, 0), (0, 9), (0, 120), (126, 245), (245, 245)])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("scheme", [MXFP4, MXFP8], ids=name)
def test_every_code_at_every_exponent_is_exact(mended, scheme, dtype, lowest, highest):
    found, right, _ = one_input_a_token(scheme, dtype, lowest, highest)
    assert torch.isfinite(right).all()
    assert torch.equal(found, right)


@pytest.mark.parametrize("scheme", [MXFP4, MXFP8], ids=name)
def test_what_exponents_of_all_sizes_in_one_row_lose_is_less_than_bf16_holds(mended, scheme):
    found, right, exponents = one_input_a_token(scheme, "bf16", 0, 245)
    largest = exponents.amax(0)
    lost = (found.double() - right.double()).abs()
    assert torch.equal(found[exponents > largest - 120], right[exponents > largest - 120])
    assert (lost <= 1.25 * 2.0 ** (largest.double() - 127 - 133)).all()
    assert (exponents < largest - 140).any()


@pytest.mark.parametrize("scheme", [MXFP4, MXFP8], ids=name)
def test_a_scale_that_is_no_number_is_seen(mended, scheme):
    found, right, exponents = one_input_a_token(scheme, "bf16", 254, 255)
    rows = (exponents == 255).any(0)
    assert rows.any()
    assert not torch.isfinite(found[:, rows]).any()
    assert not torch.isfinite(right[:, rows]).any()


def test_weights_in_the_other_encoding_mean_the_same():
    """The interpreter does not have that encoding: its products are compiled, not run."""
    scheme = by("fp8_e4m3", "tensor", activation="fp8_e4m3")
    tensors = draw(scheme, 48, 64, parts=2)
    asked = schemes.recipe(scheme, "bf16", 64, FNUZ)
    assert (asked.type, asked.high) == ("fp8_e4m3fnuz", 240.0)
    made = operand(asked, scheme, tensors, (16, 32))
    assert made.weight.dtype == torch.float8_e4m3fnuz
    right = dequantize(scheme, tensors, (16, 32))
    assert torch.equal(made.weight.float() * made.last[:, None], right)


@pytest.mark.parametrize("scheme", [*WEIGHT_ONLY, *INPUTS_TOO], ids=name)
def test_what_is_kept_beyond_the_checkpoints_tensors_is_told(scheme):
    tensors = draw(scheme, 64, 128)
    asked = schemes.recipe(scheme, "bf16", 128, EIGHT_BITS)
    kept = sum(t.nbytes for t in operand(asked, scheme, tensors).tensors().values())
    most = sum(t.nbytes for t in tensors.values()) + schemes.extra_bytes(
        scheme, 64, 128, "bf16", EIGHT_BITS
    )
    assert kept <= most + 64  # the values of nf4
    assert kept >= most - 4 * 64


def test_splits_follow_from_the_number_of_tokens():
    device = replace(PROPS, cores=64)
    r = LinearRequest(
        device=device, in_features=4096, out_features=512, dtype="fp32", scheme=group("int4", 64)
    )
    kernel = QuantizedLinear(r, FEW, MANY)
    assert [kernel._splits(tiles, 64, 2) for tiles in (1, 16, 32, 128, 4096)] == [16, 8, 4, 1, 1]
    assert kernel._splits(1, 64, 0) == 1


MUTANTS = [
    (group("int4", 32), {"OFFSET": 7}),
    (group("int4", 32), {"W_GROUP": 64}),
    (group("uint4", 32, zero_point=True), {"ZERO": False}),
    (by("fp8_e4m3", "block", block=(16, 32)), {"W_ROWS": 8}),
    (by("fp8_e4m3", "channel"), {"LAST": False}),
    (group("fp4_e2m1", 32, "ue8m0"), {"W_EXPONENTS": False}),
    (MXFP4, {"IN_WEIGHT": False}),
    (MXFP8, {"W_GROUP": 64}),
    (NVFP4, {"W_GROUP": 32}),
    (by("int8", "channel", activation="int8"), {"INPUT": 0}),
    (INPUTS_TOO[-1], {"X_EXPONENTS": False}),
    (INPUTS_TOO[6], {"X_GROUP": 64}),
]


@pytest.mark.parametrize(("scheme", "change"), MUTANTS, ids=lambda x: getattr(x, "name", str(x)))
def test_a_kernel_that_reads_a_scheme_wrongly_is_seen(mended, monkeypatch, scheme, change):
    made = module.constants
    monkeypatch.setattr(module, "constants", lambda *given: made(*given) | change)
    found, right = both(scheme)
    assert not error(found, right) < 1e-3
