"""Rotary embedding against rotations of complex numbers, and its table against positions."""

import math

import pytest
import torch

from inferplane.layers.rotary import Rope, table
from inferplane.reference.rotary import Rotary
from inferplane.spec import DeviceProps, RotaryRequest

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=8)

PROPS = DeviceProps(name="a", profile="a", memory_bytes=1, dtypes=frozenset({"fp32"}))
SIZE = 16


def make(style: str = "neox", rotary_dim: int = SIZE, axes: int = 1) -> Rotary:
    request = RotaryRequest(
        device=PROPS,
        heads=2,
        kv_heads=1,
        head_dim=SIZE,
        rotary_dim=rotary_dim,
        dtype="fp32",
        style=style,
        axes=axes,
    )
    return Rotary(request)


def turned(style: str, positions: list[int], rotary_dim: int = SIZE):
    """(q before, q after, k before, k after)."""
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(len(positions), 2, SIZE, generator=generator)
    k = torch.randn(len(positions), 1, SIZE, generator=generator)
    q_out, k_out = q.clone(), k.clone()
    made = make(style, rotary_dim)
    made(q_out, k_out, made.step(table(Rope(rotary_dim), 100, "cpu"), torch.tensor(positions)))
    return q, q_out, k, k_out


def as_complex(x: torch.Tensor, style: str) -> torch.Tensor:
    pairs = (x[..., 0::2], x[..., 1::2]) if style == "interleaved" else x.chunk(2, -1)
    return torch.complex(*pairs)


@pytest.mark.parametrize("style", ["neox", "interleaved"])
def test_each_pair_turns_by_position_times_frequency(style):
    positions = [0, 1, 13, 99]
    q, q_out, k, k_out = turned(style, positions)
    frequency = torch.tensor([10000.0 ** (-2 * i / SIZE) for i in range(SIZE // 2)])
    turn = torch.exp(1j * torch.tensor(positions)[:, None] * frequency)[:, None]
    for before, after in ((q, q_out), (k, k_out)):
        expected = as_complex(before, style) * turn
        torch.testing.assert_close(as_complex(after, style), expected, atol=1e-5, rtol=0)


def test_interleaved_is_neox_of_sorted_elements():
    order = [*range(0, SIZE, 2), *range(1, SIZE, 2)]
    q, q_out, _, _ = turned("interleaved", [5])
    found = q[..., order].clone()
    made = make()
    made(found, found.clone(), made.step(table(Rope(SIZE), 100, "cpu"), torch.tensor([5])))
    torch.testing.assert_close(found, q_out[..., order], atol=1e-6, rtol=0)


@pytest.mark.parametrize("style", ["neox", "interleaved"])
def test_position_zero_changes_nothing(style):
    q, q_out, k, k_out = turned(style, [0])
    assert torch.equal(q, q_out)
    assert torch.equal(k, k_out)


def test_a_partial_embedding_leaves_the_rest_of_a_head():
    q, q_out, _, _ = turned("neox", [7], rotary_dim=8)
    assert torch.equal(q[..., 8:], q_out[..., 8:])
    assert not torch.equal(q[..., :8], q_out[..., :8])


def test_products_depend_on_distances_only():
    made, cos_sin = make(), table(Rope(SIZE), 100, "cpu")
    generator = torch.Generator().manual_seed(0)
    q0, k0 = (torch.randn(1, 1, SIZE, generator=generator) for _ in range(2))
    products = []
    for at in (0, 40):
        q, k = q0.clone(), k0.clone()
        made(q, q.clone(), made.step(cos_sin, torch.tensor([at + 9])))
        made(k, k.clone(), made.step(cos_sin, torch.tensor([at + 2])))
        products.append(float((q * k).sum()))
    assert math.isclose(*products, abs_tol=1e-4)


def test_several_axes_are_refused():
    with pytest.raises(ValueError, match="one axis"):
        make(axes=3)
