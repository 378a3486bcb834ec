"""One NVIDIA GPU: torch's own device module, and which errors end the process.

Source: CUDA Runtime API, "Data types used by CUDA Runtime", cudaError: the codes below are those
after which "the process must be terminated and relaunched", and those of lost hardware.
"""

from __future__ import annotations

import os
from typing import ClassVar

from inferplane.spec import Device


class CUDADevice(Device):
    memory_codes: ClassVar[frozenset[int]] = frozenset({2})  # cudaErrorMemoryAllocation
    # DevicesUnavailable; ECCUncorrectable, NvlinkUncorrectable, Contained; IllegalAddress,
    # LaunchTimeout, ContextIsDestroyed, Assert; HardwareStackError, IllegalInstruction,
    # MisalignedAddress, InvalidAddressSpace, InvalidPc, LaunchFailure, TensorMemoryLeak; Unknown
    lost_codes: ClassVar[frozenset[int]] = frozenset(
        {46, 214, 219, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 999}
    )
    # cudaGetErrorString of the same, for errors of Triton and of libraries, which have no code
    lost_words: ClassVar[tuple[str, ...]] = (
        "uncorrectable ECC error encountered",
        "uncorrectable NVLink error detected",
        "an illegal memory access was encountered",
        "the launch timed out and was terminated",
        "device-side assert triggered",
        "hardware stack error",
        "an illegal instruction was encountered",
        "misaligned address",
        "operation not supported on global/shared address space",
        "invalid program counter",
        "unspecified launch failure",
        "NCCL error: unhandled cuda error",
    )

    def activate(self) -> None:
        """Raises RuntimeError where torch, all the same, counts GPUs in another order."""
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        super().activate()
        asked = self.props.detail("uuid")
        if not asked.startswith("GPU-"):  # torch has no UUID of MIG instances
            return
        found = str(getattr(self._module().get_device_properties(self.props.index), "uuid", ""))
        if found and found.removeprefix("GPU-") != asked.removeprefix("GPU-"):
            raise RuntimeError(
                f"cuda:{self.props.index} is GPU-{found.removeprefix('GPU-')} for torch, and "
                f"{asked} by its PCI address: set CUDA_DEVICE_ORDER=PCI_BUS_ID"
            )
