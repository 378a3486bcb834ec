"""Torch's own ops on the device give what they give on the host."""

from __future__ import annotations

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from inferplane_sim.errors import SimDtypeError

pytestmark = pytest.mark.ci(platforms=["sim"], suite="plugins", est_seconds=8)

CALLS = {
    "add": lambda x: x + 1,
    "scalar tensor": lambda x: x * torch.tensor(2.0),
    "matmul": lambda x: x @ x.T,
    "batched matmul": lambda x: x[None] @ x.T[None],
    "softmax": lambda x: x.softmax(-1),
    "layer norm": lambda x: F.layer_norm(x, (6,)),
    "rms norm": lambda x: F.rms_norm(x, (6,)),
    "mean": lambda x: x.mean(-1, keepdim=True),
    "sort": lambda x: x.sort(-1, descending=True).values,
    "topk": lambda x: x.topk(2).indices,
    "argmax": lambda x: x.argmax(-1),
    "max and place": lambda x: torch.stack([x.max(1).values, x.max(1).indices.float()]),
    "where": lambda x: torch.where(x > 0, x, -x),
    "masked fill": lambda x: x.masked_fill(x < 0, 0.0),
    "in place": lambda x: x.clone().mul_(2).add_(x),
    "in place on a view": lambda x: _column(x.clone()),
    "split": lambda x: torch.cat(x.split(2)[::-1]),
    "cumsum": lambda x: x.cumsum(0),
    "transpose": lambda x: x.T.contiguous(),
    "reshape": lambda x: x.T.reshape(-1),
    "pad": lambda x: F.pad(x, (1, 2)),
    "linear": lambda x: F.linear(x, x, x[:, 0]),
    "attention": lambda x: F.scaled_dot_product_attention(x[None], x[None], x[None]),
    "one value": lambda x: torch.tensor(x.sum().item()),
    "mask": lambda x: x[x > 0],
    "nonzero": lambda x: (x > 0).nonzero(),
    "set by mask": lambda x: _masked(x.clone()),
    "accumulate by mask": lambda x: _accumulated(x.clone()),
    "unique": lambda x: torch.unique(x.round()),
    "repeat": lambda x: x.repeat_interleave(2, dim=0),
    "out": lambda x: torch.add(x, 1, out=torch.empty_like(x)),
    "several": lambda x: torch._foreach_add([x, x], 1)[1],
    "several in place": lambda x: _several(x.clone()),
    "einsum": lambda x: torch.einsum("ij,kj->ik", x, x),
    "bits": lambda x: (x > 0).int() << 3 & 0xFF,
}


def _column(x):
    x[:, 2] = 7.0
    return x


def _several(x):
    torch._foreach_mul_([x, x], 2)
    return x


def _masked(x):
    x[x > 0] = -1.0
    return x


def _accumulated(x):
    x.index_put_((x[:, 0] > 0,), torch.ones((), device=x.device), accumulate=True)
    return x


@pytest.mark.parametrize("name", CALLS)
def test_an_op_gives_what_the_host_gives(sim, values, name):
    x = values(5, 6)
    expected = CALLS[name](x)
    given = CALLS[name](x.to("sim"))
    assert given.dtype == expected.dtype
    if name == "attention":  # the host may fuse it
        torch.testing.assert_close(given.cpu(), expected, atol=1e-6, rtol=1e-6)
    else:
        assert torch.equal(given.cpu(), expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda d: torch.arange(2, 9, 2, device=d),
        lambda d: torch.arange(5.0, device=d),
        lambda d: torch.full((2, 2), 3, device=d),
        lambda d: torch.linspace(0, 1, 5, device=d),
        lambda d: torch.eye(3, device=d),
        lambda d: torch.zeros(3, dtype=torch.bool, device=d),
        lambda d: torch.tensor([[1, 2], [3, 4]], device=d),
        lambda d: torch.ones(2, device=d).new_full((3,), 2.0),
    ],
)
def test_factories(sim, make):
    assert torch.equal(make("sim").cpu(), make("cpu"))


def test_random_numbers_are_the_host_generators(sim):
    torch.manual_seed(5)
    expected = torch.randn(4)
    torch.manual_seed(5)
    assert torch.equal(torch.randn(4, device="sim").cpu(), expected)


def test_a_dtype_that_the_profile_lacks_is_refused(start):
    start(dtypes="fp32")
    x = torch.ones(3).to("sim")
    with pytest.raises(SimDtypeError, match="bfloat16: sim:0 computes with float32"):
        x.bfloat16()
    y = torch.ones(3, dtype=torch.bfloat16).to("sim")  # it can be stored
    assert y.view(3)[1:].cpu().tolist() == [1.0, 1.0]
    with pytest.raises(SimDtypeError, match=r"aten::add on torch\.bfloat16"):
        y + 1
    with pytest.raises(SimDtypeError, match=r"aten::gt on torch\.bfloat16"):
        y.gt(0)


def test_host_and_device_do_not_mix(sim):
    with pytest.raises(RuntimeError, match="found sim:0 and cpu"):
        torch.ones(3, device="sim") + torch.ones(3)


def test_an_output_is_not_resized(sim):
    x = torch.ones(3, device="sim")
    with pytest.raises(RuntimeError, match="would resize its output"):
        torch.add(x, 1, out=torch.empty(0, device="sim"))


def test_likenesses_go_where_they_are_asked_for(start):
    start(devices=2)
    x = torch.ones(3, device="sim:0")
    assert torch.zeros_like(x, device="cpu").tolist() == [0.0] * 3
    assert torch.full_like(x, 2.0, device="sim:1").device == torch.device("sim", 1)
    assert x.new_zeros(2).device == x.device


def test_reading_allocates_nothing(sim):
    x = torch.ones(3, device="sim")
    peak = sim.boards[0].memory.peak
    x.cpu()
    assert sim.boards[0].memory.peak == peak


def test_modules_move_and_run(sim):
    layer = torch.nn.Linear(4, 4)
    x = torch.ones(2, 4)
    expected = layer(x)
    moved = copy.deepcopy(layer).to("sim")
    assert torch.allclose(moved(x.to("sim")).cpu(), expected)
    assert next(moved.parameters()).device == torch.device("sim", 0)


def test_saved_tensors_come_back(sim):
    file = io.BytesIO()
    torch.save({"x": torch.ones(3, device="sim").cpu()}, file)
    file.seek(0)
    assert torch.load(file)["x"].tolist() == [1.0] * 3


def test_inference_mode_makes_inference_tensors(sim):
    base = torch.ones(4, device="sim")
    with torch.inference_mode():
        view = base.view(2, 2)
        new = base + 1
        view += 1
    assert new.is_inference()
    assert not view.is_inference()
    assert base.tolist() == [2.0] * 4


def test_a_print_waits_and_names_the_device(sim):
    assert "device='sim:0'" in repr(torch.ones(2, device="sim"))


def test_addresses_tell_apart_and_views_are_inside(sim):
    x, y = torch.ones(4, device="sim"), torch.ones(4, device="sim")
    assert x.data_ptr() != y.data_ptr()
    assert x[1:].data_ptr() == x.data_ptr() + 4


def test_shapes_are_remembered_by_value_and_type(sim):
    x = torch.tensor([3], dtype=torch.int32, device="sim")
    assert (x * 2).dtype == torch.int32
    assert (x * 2.0).dtype == torch.float32
    assert (x * True).dtype == torch.int32
