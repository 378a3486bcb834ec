"""RCCL, which torch calls "nccl" in its builds for ROCm. RCCL finds XGMI links itself."""

from __future__ import annotations

from inferplane.spec import TorchCommunicator


class RCCL(TorchCommunicator):
    backend = "nccl"
