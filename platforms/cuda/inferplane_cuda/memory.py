"""Memory of a GPU: torch's figure where this process uses the GPU, checked against NVML's.

NVML alone where it does not: torch's would make a context, which takes memory itself.
Sources: CUDA Runtime API, cudaMemGetInfo; NVML API Reference Guide, nvmlDeviceGetMemoryInfo;
Linux proc_meminfo(5); NVIDIA DGX Spark User Guide, "Known Issues" (memory that parts with unified
memory report as used, though the system would give it).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from inferplane.spec import DeviceProps, GiB, MemoryInfo

from .management import NoNVML, memory_of, nvml

_TORCH = "torch.cuda.mem_get_info"


def memory_info(props: DeviceProps) -> MemoryInfo:
    torch = sys.modules.get("torch")
    ours = torch is not None and torch.cuda.is_initialized()
    used = int(torch.cuda.memory_reserved(props.index)) if torch and ours else -1
    if "unified_memory" in props.capabilities:
        return _shared(torch if ours else None, props, used)
    nvml_says = _by_nvml(props)
    if not ours and isinstance(nvml_says, MemoryInfo):
        return nvml_says
    import torch as loaded

    free, total = loaded.cuda.mem_get_info(props.index)
    info = MemoryInfo(
        free_bytes=int(free), total_bytes=int(total), source=_TORCH, used_by_us_bytes=used
    )
    return info.checked_by(nvml_says)


def _by_nvml(props: DeviceProps) -> MemoryInfo | str:
    """What NVML says, or why it says nothing."""
    uuid = props.detail("uuid")
    if not uuid:
        return f"NVML: {props.detail('nvml', 'this GPU was not found by it')}"
    try:
        with nvml() as lib:
            try:
                found = memory_of(lib, lib.nvmlDeviceGetHandleByUUID(uuid))
            except lib.NVMLError as error:
                return f"NVML: {error}"
    except NoNVML as error:
        return f"NVML: {error}"
    if found is None:
        return "NVML has no figure for this GPU"
    return MemoryInfo(free_bytes=found[0], total_bytes=found[1], source="NVML")


def _shared(torch: Any, props: DeviceProps, used: int) -> MemoryInfo:
    """CUDA's free memory leaves out what the system would take back from its caches."""
    free, total = system_memory()
    source = "/proc/meminfo (the GPU shares the host's memory"
    if torch is not None:
        says = int(torch.cuda.mem_get_info(props.index)[0])
        source += f"; {_TORCH} says {says / GiB:.1f} GiB free"
    return MemoryInfo(
        free_bytes=free,
        total_bytes=total,
        source=source + ")",
        unified=True,
        used_by_us_bytes=used,
    )


def system_memory(file: Path = Path("/proc/meminfo")) -> tuple[int, int]:
    """(available, total) bytes of the host."""
    fields = {}
    for line in file.read_text().splitlines():
        name, _, value = line.partition(":")
        fields[name] = int(value.split()[0]) * 1024
    return fields["MemAvailable"], fields["MemTotal"]
