"""Memory of an AMD GPU: torch's figure where this process holds memory of it, checked against
amdsmi's; amdsmi's alone where it does not, since torch's would make a context first.

Parts that take the host's memory: HIP's figure leaves out what other programs took, and amdsmi's is
the little that the firmware set aside, so the smaller of HIP's and the kernel's counts.
Sources: HIP Runtime API, hipMemGetInfo; AMD SMI documentation, amdsmi_get_gpu_memory_total and
amdsmi_get_gpu_memory_usage (bytes); Linux, proc_meminfo(5), and amdgpu_amdkfd_gpuvm.c
(`kfd_mem_limit`: what the driver's own allocations took).
"""

from __future__ import annotations

import sys
from pathlib import Path

from inferplane.spec import DeviceProps, GiB, MemoryInfo

from .management import NoSMI, by_address, smi


def memory_info(props: DeviceProps) -> MemoryInfo:
    known = sys.modules.get("torch")
    held = int(known.cuda.memory_reserved(props.index)) if known is not None else 0
    shared = "unified_memory" in props.capabilities
    says = "" if shared else _by_smi(props.detail("pci"))
    if not held and isinstance(says, MemoryInfo):
        return says
    import torch

    free, total = map(int, torch.cuda.mem_get_info(props.index))
    source = "hipMemGetInfo"
    if shared:
        available, all_of_it = host_memory()
        if total <= all_of_it and available < free:  # else the firmware set the total aside
            source = f"/proc/meminfo (hipMemGetInfo says {free / GiB:.1f} GiB free)"
            free = available
    info = MemoryInfo(
        free_bytes=free, total_bytes=total, source=source, unified=shared, used_by_us_bytes=held
    )
    return info if shared else info.checked_by(says)


def host_memory(file: Path = Path("/proc/meminfo")) -> tuple[int, int]:
    """Bytes of the host: what the kernel would give, and all."""
    rows = dict(row.split(":") for row in file.read_text().splitlines())
    return int(rows["MemAvailable"].split()[0]) << 10, int(rows["MemTotal"].split()[0]) << 10


def _by_smi(address: str) -> MemoryInfo | str:
    """What amdsmi says, or why it says nothing."""
    try:
        with smi() as lib:
            handle = by_address(lib).get(address)
            if handle is None:
                return f"amdsmi has no GPU at {address or 'an unknown address'}"
            kind = lib.AmdSmiMemoryType.VRAM
            try:
                total = lib.amdsmi_get_gpu_memory_total(handle, kind)
                used = lib.amdsmi_get_gpu_memory_usage(handle, kind)
            except lib.AmdSmiException as error:
                return f"amdsmi: {' '.join(str(error).split())}"
    except NoSMI as error:
        return str(error)
    return MemoryInfo(free_bytes=total - used, total_bytes=total, source="amdsmi")
