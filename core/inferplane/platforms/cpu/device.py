"""The CPU as a device: work is done when a call returns, so there are no streams or events."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from inferplane.spec import Device, DeviceProps, Fault, GiB, Probe

from .memory import memory_info
from .native.build import details

_CAPABILITIES = frozenset(
    {
        "int64_index",
        "unified_memory",
        *("fp8_e4m3_convert", "fp8_e5m2_convert", "fp8_e4m3fnuz_convert"),
    }
)


def _profile(
    name: str,
    profile: str,
    memory: int,
    cores: int,
    details: tuple[tuple[str, str], ...] = (),
) -> DeviceProps:
    return DeviceProps(
        name=name,
        profile=profile,
        memory_bytes=memory,
        dtypes=frozenset({"fp32", "bf16"}),
        capabilities=_CAPABILITIES,
        cores=cores,
        details=details,
    )


PROFILES = (
    _profile("laptop, 8 cores, 16 GiB", "laptop", 16 * GiB, 8),
    _profile("server, 32 cores, 128 GiB", "server", 128 * GiB, 32),
)


def probe() -> Probe:
    """There is always one, with the memory that this process may use."""
    total = memory_info().total_bytes
    return Probe.found([_profile(cpu_name(), "host", total, usable_cores(), details())])


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """The processor's name as the kernel tells, or "CPU"."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        return "CPU"
    return "CPU"


class CPUDevice(Device):
    """torch's "cpu", with an allocator that keeps freed memory once the model is loaded."""

    def activate(self) -> None:
        keep_freed_memory(False)

    def empty_cache(self) -> None:
        """Called after loading: from here on, what is freed is wanted again in the next step."""
        keep_freed_memory(True)

    def fault(self, error: BaseException) -> Fault:
        """torch has no error class of its own for the host's memory; it names its allocator."""
        full = isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)
        return Fault.MEMORY if full else super().fault(error)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_KEPT_BYTES = 1 << 30
_MAPPED_BYTES = 1 << 20


def keep_freed_memory(keep: bool) -> bool:
    """Whether glibc's malloc reuses large blocks, or gives each back to the system at once.

    A prefill step makes many tensors of tens of megabytes. By default each is mapped and zeroed
    anew by the kernel, page by page: q/k norm of 1,024 tokens took 11.9 ms, and 1.9 ms when kept.
    While a model is loaded it is the other way round: tensors that are held for a moment leave
    holes between those that stay, a quarter of the model's size.
    False where malloc has no such call (other C libraries); then nothing changes.
    Source: mallopt(3), malloc_trim(3).
    """
    try:
        library = ctypes.CDLL(None)
        mallopt, trim = library.mallopt, library.malloc_trim
    except (OSError, AttributeError):
        return False
    trim(0)
    size = _KEPT_BYTES if keep else _MAPPED_BYTES
    return bool(mallopt(_M_MMAP_THRESHOLD, size)) and bool(mallopt(_M_TRIM_THRESHOLD, size))
