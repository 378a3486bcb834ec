"""The CPU as a device: work is done when a call returns, so there are no streams or events."""

from __future__ import annotations

import os
from pathlib import Path

from inferplane.spec import DeviceProps, GiB, Probe

from .memory import memory_info

_CAPABILITIES = frozenset({"int64_index", "unified_memory"})


def _profile(name: str, profile: str, memory: int, cores: int) -> DeviceProps:
    return DeviceProps(
        name=name,
        profile=profile,
        memory_bytes=memory,
        dtypes=frozenset({"fp32", "bf16"}),
        capabilities=_CAPABILITIES,
        cores=cores,
    )


PROFILES = (
    _profile("laptop, 8 cores, 16 GiB", "laptop", 16 * GiB, 8),
    _profile("server, 32 cores, 128 GiB", "server", 128 * GiB, 32),
)


def probe() -> Probe:
    """There is always one, with the memory that this process may use."""
    total = memory_info().total_bytes
    return Probe.found([_profile(cpu_name(), "host", total, usable_cores())])


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
