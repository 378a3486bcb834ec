"""NCCL, and one all-reduce in a single step for small messages between GPUs with NVLink.

Which one is data: the message's size and the links that the probe found. NCCL chooses its own
algorithm (ring, tree, NVLS) from the topology that it finds itself; nothing is forced on it.
"""

from __future__ import annotations

from typing import Any

import torch

from inferplane.spec import CollectiveRequest, Group, TorchCommunicator


class NCCL(TorchCommunicator):
    backend = "nccl"


class OneShot(NCCL):
    """All-reduce by torch's symmetric memory: each rank reads the whole message of every other.

    Signature: `symm_mem::one_shot_all_reduce_out(Tensor input, str reduce_op, str group_name,
    Tensor(a!) out)` of torch 2.13; `input` begins a buffer from
    `torch.distributed._symmetric_memory.empty`, joined by `rendezvous`, which all ranks do
    together, once, and never in a graph's capture.
    """

    def __init__(self, request: CollectiveRequest) -> None:
        super().__init__(request)
        self._buffers: dict[tuple[Any, ...], torch.Tensor] = {}

    def all_reduce(self, x: torch.Tensor, group: Group) -> torch.Tensor:
        ranks = self.process_group(group)
        shared = self._buffer(x, ranks)[: x.numel()].view(x.shape)
        shared.copy_(x)
        if x.is_contiguous():
            torch.ops.symm_mem.one_shot_all_reduce_out(shared, "sum", ranks.group_name, x)
            return x
        return x.copy_(torch.ops.symm_mem.one_shot_all_reduce(shared, "sum", ranks.group_name))

    def _buffer(self, x: torch.Tensor, ranks: Any) -> torch.Tensor:
        """Room for the largest message."""
        import torch.distributed._symmetric_memory as symmetric

        key = (x.dtype, x.device, ranks.group_name)
        if key not in self._buffers:
            most = self.request.last_bytes // x.element_size()
            made = symmetric.empty(most, dtype=x.dtype, device=x.device)
            symmetric.rendezvous(made, ranks)
            self._buffers[key] = made
        return self._buffers[key]
