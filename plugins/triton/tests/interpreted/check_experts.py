"""Experts: pairs in blocks, the reference's numbers for every scheme, and what is skipped."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from batches import error
from inferplane_triton import align as sorting
from inferplane_triton import experts as module
from inferplane_triton import supports
from inferplane_triton.experts import Experts
from quantized import BLOCK_SCALED, EIGHT_BITS, Drawn, by, draw, group

from inferplane.reference.moe import Experts as Reference
from inferplane.spec import UNQUANTIZED, ExpertsRequest
from inferplane.spec.torch_types import torch_dtype

FEW = {"block_n": 64, "block_k": 64, "warps": 4, "stages": 1}
MANY = {"block_m": 32, "block_n": 32, "block_k": 64, "warps": 4, "stages": 1, "abreast": 2}
_FP8 = {"activation": "fp8_e4m3"}
_GROUPS = {"activation_granularity": "group", "activation_group": 32}
SCHEMES = (
    UNQUANTIZED,
    group("int4", 32),
    group("uint4", 32, zero_point=True),
    by("int8", "channel"),
    group("fp4_e2m1", 32, "ue8m0"),
    group("fp4_e2m1", 16, "fp8_e4m3", global_scale=True),
    group("fp8_e4m3", 32, "ue8m0"),
    by("fp8_e4m3", "channel"),
    by("int8", "channel", activation="int8"),
    by("fp8_e4m3", "tensor", dynamic=False, activation_granularity="tensor", **_FP8),
    by("fp8_e4m3", "channel", **_FP8),
    by("fp8_e4m3", "block", block=(16, 32), **_FP8, **_GROUPS),
    group("fp4_e2m1", 32, "ue8m0", activation_scale="ue8m0", **_FP8, **_GROUPS),
)


@pytest.mark.parametrize("rows", [16, 32])
@pytest.mark.parametrize(("tokens", "experts"), [(1, 8), (40, 3), (150, 20)])
def test_blocks_hold_every_pair_of_an_expert_once(tokens, experts, rows):
    chance = torch.Generator().manual_seed(tokens)
    chosen = torch.randint(-1, experts + 1, (tokens, 4), generator=chance, dtype=torch.int32)
    made = sorting.align(chosen, experts, rows)
    assert made.count == sorting.blocks_of(chosen.numel(), experts, rows)
    found: dict[int, list[int]] = {}
    for block in range(made.count):
        expert, held = int(made.experts[block]), int(made.rows[block])
        assert (expert >= 0) == (held > 0)
        if expert >= 0:
            first = block * rows
            found.setdefault(expert, []).extend(made.order[first : first + held].tolist())
    flat = chosen.flatten().tolist()
    right = {e: [i for i, x in enumerate(flat) if x == e] for e in range(experts) if e in flat}
    assert found == right


def both(
    scheme: Any = UNQUANTIZED,
    tokens: int = 4,
    dtype: str = "fp32",
    sizes: tuple[int, int] = (64, 64),
    lost: bool = False,
    device: Any = EIGHT_BITS,
    **fields: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(found, right). sizes: C, I. lost: some experts are another rank's."""
    count, (hidden, inner) = fields.pop("experts", 3), sizes
    r = ExpertsRequest(
        device=device, experts=count, top_k=2, hidden=hidden, intermediate=inner, dtype=dtype,
        scheme=scheme, **fields,
    )  # fmt: skip
    assert supports.experts(r).ok, supports.experts(r)
    chance = torch.Generator().manual_seed(2)
    tensors = {}
    for seed, (name, rows, inputs) in enumerate(
        (("gate_up", 2 * inner, hidden), ("down", hidden, inner))
    ):
        if scheme.quantized:
            parts = 2 if name == "gate_up" else 1
            own = draw(scheme, count, rows, inputs, parts=parts, seed=seed)
        else:
            weight = torch.randn(count, rows, inputs, generator=chance) / 8
            own = {"weight": weight.to(torch_dtype(dtype))}
        if r.bias:
            own["bias"] = torch.randn(count, rows, generator=chance).to(torch_dtype(dtype))
        tensors |= {f"{name}.{key}": tensor for key, tensor in own.items()}
    x = torch.randn(tokens, hidden, generator=chance).to(torch_dtype(dtype))
    weights = torch.rand(tokens, 2, generator=chance)
    chosen = torch.rand(tokens, count, generator=chance).argsort(-1)[:, :2].int()
    if lost:
        chosen[::2, 0] = -1
        chosen[0] = -1
    kernel, oracle, source = Experts(r, FEW, MANY), Reference(r), Drawn(tensors)
    found = kernel(x, weights, chosen, kernel.prepare(source))
    return found, oracle(x, weights, chosen, oracle.prepare(source))


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
def test_every_scheme(mended, scheme):
    found, right = both(scheme)
    assert error(found, right) < 5e-6


@pytest.mark.parametrize("scheme", [UNQUANTIZED, group("int4", 32)], ids=lambda s: s.name)
def test_many_tokens_in_larger_blocks(scheme):
    found, right = both(scheme, tokens=70)
    assert error(found, right) < 5e-6


ACTIVATIONS = [
    {"activation": "gelu"},
    {"activation": "gelu_tanh", "bias": True},
    {"activation": "swigluoai", "limit": 1.0, "bias": True},
    {"limit": 0.5},
]


@pytest.mark.parametrize("fields", ACTIVATIONS, ids=str)
def test_activations_limits_and_biases(fields):
    found, right = both(**fields)
    assert error(found, right) < 5e-6


@pytest.mark.parametrize("scheme", [UNQUANTIZED, SCHEMES[8]], ids=lambda s: s.name)
def test_experts_of_other_ranks_add_nothing(scheme):
    found, right = both(scheme, lost=True)
    assert error(found, right) < 5e-6
    assert torch.equal(found[0], torch.zeros_like(found[0]))


@pytest.mark.parametrize("sizes", [(24, 40), (16, 8), (48, 17)])
def test_sizes_that_fill_no_tile(sizes):
    found, right = both(sizes=sizes, bias=True)
    assert error(found, right) < 5e-6


def test_no_tokens_and_one():
    assert both(tokens=0)[0].shape == (0, 64)
    found, right = both(tokens=1)
    assert error(found, right) < 5e-6


@pytest.mark.parametrize(
    ("dtype", "scheme", "most"),
    [
        ("fp16", UNQUANTIZED, 4e-3),
        ("bf16", UNQUANTIZED, 3e-2),
        ("bf16", group("fp4_e2m1", 32, "ue8m0"), 3e-2),
        ("fp16", group("fp4_e2m1", 32, "ue8m0"), 4e-3),
    ],
    ids=str,
)
def test_half_precision(mended, dtype, scheme, most):
    found, right = both(scheme, dtype=dtype)
    assert error(found, right) < most


@pytest.mark.parametrize("tokens", [4, 70])
@pytest.mark.parametrize("scheme", SCHEMES[4:7], ids=lambda s: s.name)
@pytest.mark.parametrize(("dtype", "most"), [("fp32", 5e-6), ("bf16", 3e-2)])
def test_steps_of_several_groups_and_inputs_that_end_within_a_step(
    mended, scheme, tokens, dtype, most
):
    found, right = both(scheme, tokens, dtype, (96, 160), bias=True)
    assert error(found, right) < most


def test_shared_exponents_on_the_devices_own_unit(mended):
    scheme = group("fp4_e2m1", 32, "ue8m0")
    found, right = both(
        scheme, dtype="bf16", device=BLOCK_SCALED, activation="swigluoai", limit=7.0
    )
    assert error(found, right) < 3e-2


def test_a_captured_call_launches_the_same_whatever_the_experts(monkeypatch):
    seen: list[list[Any]] = [[], []]

    def note(into: list[Any]) -> Any:
        def launch(function, grid, *arguments, options, **constants):
            given = [a if not isinstance(a, torch.Tensor) else a.shape for a in arguments]
            into.append((function.__name__, grid, given, constants, dict(options)))

        return launch

    r = ExpertsRequest(
        device=EIGHT_BITS, experts=4, top_k=2, hidden=16, intermediate=16, dtype="fp32"
    )
    kernel = Experts(r, FEW, MANY)
    names = {"gate_up.weight": (4, 32, 16), "down.weight": (4, 16, 16)}
    packed = kernel.prepare(Drawn({name: torch.zeros(size) for name, size in names.items()}))
    for into, chosen in zip(seen, ([[0, 1], [0, 1]], [[-1, 3], [2, 0]]), strict=True):
        for where in (module, sorting):
            monkeypatch.setattr(where, "launch", note(into))
        kernel(torch.zeros(2, 16), torch.zeros(2, 2), torch.tensor(chosen).int(), packed)
    assert seen[0] == seen[1]
    assert [name for name, *_ in seen[0]] == [
        "count_kernel",
        "place_kernel",
        "experts_kernel",
        "experts_kernel",
        "join_kernel",
    ]
