"""One AMD GPU: torch's device type "cuda" over HIP, and which errors end the process.

Source: HIP Runtime API, hipError_t.
"""

from __future__ import annotations

from typing import ClassVar

from inferplane.spec import Device


class HIPDevice(Device):
    memory_codes: ClassVar[frozenset[int]] = frozenset({2})  # hipErrorOutOfMemory
    # NoDevice; ECCNotCorrectable; IllegalAddress, LaunchTimeOut, ContextIsDestroyed, Assert,
    # LaunchFailure; Unknown
    lost_codes: ClassVar[frozenset[int]] = frozenset({100, 214, 700, 702, 709, 710, 719, 999})
    # hipGetErrorString of the same, for errors of Triton and of libraries, which have no code
    lost_words: ClassVar[tuple[str, ...]] = (
        "uncorrectable ECC error encountered",
        "an illegal memory access was encountered",
        "the launch timed out and was terminated",
        "device-side assert triggered",
        "unspecified launch failure",
        "HSA_STATUS_ERROR",
        "NCCL error: unhandled cuda error",
    )
