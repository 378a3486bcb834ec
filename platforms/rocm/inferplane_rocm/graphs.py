"""hipGraph, which torch gives under the names of its device type "cuda"."""

from __future__ import annotations

from inferplane.spec import TorchGraphs


class HIPGraphs(TorchGraphs):
    torch_type = "cuda"
    graph_class = "CUDAGraph"
