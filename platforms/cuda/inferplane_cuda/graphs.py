"""CUDA graphs through torch. All graphs of a device share one pool of memory."""

from __future__ import annotations

from inferplane.spec import TorchGraphs


class CUDAGraphs(TorchGraphs):
    torch_type = "cuda"
    graph_class = "CUDAGraph"
