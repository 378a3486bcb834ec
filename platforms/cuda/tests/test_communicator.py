"""Which all-reduce serves which message, as data, and the operator that one of them calls.

NCCL's calls are those of `inferplane.spec.TorchCommunicator`, tested there over gloo.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from inferplane_cuda import communicator
from inferplane_cuda.plugin import inferplane_communicator, inferplane_platform

from inferplane.plugins.resolution import Resolver
from inferplane.spec import CollectiveRequest, Group

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=2)

H200 = inferplane_platform().profile("h200")
L40S = inferplane_platform().profile("l40s")


def choose(props=H200, **changes):
    fields = {"ranks": 8, "dtype": "bf16", "last_bytes": 64 << 10} | changes
    request = CollectiveRequest(device=props, **fields)
    choice = Resolver(inferplane_communicator(props)).choose(request)
    return choice.candidate.name, {r.candidate.name: r.reason for r in choice.rejected}


def test_small_messages_over_nvlink_take_one_step():
    assert choose()[0] == "cuda.one_shot"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"last_bytes": 1 << 20}, "up to 1,048,576 bytes"),
        ({"ranks": 16}, "16 ranks"),
        ({"dtype": "fp16"}, "dtype is fp16"),
        ({"props": L40S}, "links are pcie"),
        ({"props": replace(H200, details=())}, "links are unknown"),
    ],
)
def test_all_else_is_left_to_nccl_with_a_reason(changes, reason):
    name, rejected = choose(**changes)
    assert name == "cuda.nccl"
    assert reason in rejected["cuda.one_shot"]


@pytest.mark.parametrize("op", ["all_gather", "reduce_scatter", "all_to_all", "broadcast"])
def test_nccl_has_every_other_collective(op):
    assert choose(op=op)[0] == "cuda.nccl"


def test_torch_still_has_the_operator_as_it_is_called():
    schema = str(torch.ops.symm_mem.one_shot_all_reduce_out.default._schema)
    assert schema.startswith(
        "symm_mem::one_shot_all_reduce_out(Tensor input, str reduce_op, str group_name, "
        "Tensor(a!) out)"
    )


def test_messages_of_all_sizes_go_through_one_buffer_that_is_joined_once(monkeypatch):
    """Two ranks with the same message: the sum is twice it. As CUDASymmetricMemoryOps.cu of torch
    has it, the input lies at the start of the buffer, and has the shape of the output."""
    import torch.distributed._symmetric_memory as symmetric

    joined = []
    monkeypatch.setattr(symmetric, "empty", lambda *size, dtype, device: torch.empty(*size))
    monkeypatch.setattr(symmetric, "rendezvous", lambda tensor, group: joined.append(tensor))

    def checked(given, op, name):
        assert (op, name) == ("sum", "tp-0") and given.is_contiguous()
        assert given.data_ptr() in [t.data_ptr() for t in joined]
        return given * 2

    class Operators:
        @staticmethod
        def one_shot_all_reduce_out(given, op, name, out):
            assert given.shape == out.shape and out.is_contiguous()
            return out.copy_(checked(given, op, name))

        @staticmethod
        def one_shot_all_reduce(given, op, name):
            return checked(given, op, name)

    monkeypatch.setattr(torch.ops, "symm_mem", Operators)
    request = CollectiveRequest(device=H200, ranks=2, dtype="fp32", last_bytes=4096)
    made = communicator.OneShot(request)
    group = Group("tp", (0, 1), 0)
    monkeypatch.setattr(made, "process_group", lambda group: type("G", (), {"group_name": "tp-0"}))
    x = torch.arange(6.0).view(2, 3)
    assert made.all_reduce(x, group) is x
    assert x.tolist() == [[0, 2, 4], [6, 8, 10]]
    view = torch.arange(6.0).view(2, 3).T
    assert made.all_reduce(view, group).tolist() == [[0, 6], [2, 8], [4, 10]]
    for rows in (1, 7, 64):
        assert made.all_reduce(torch.ones(rows, 16), group).eq(2).all()
    assert [tensor.nbytes for tensor in joined] == [4096]
