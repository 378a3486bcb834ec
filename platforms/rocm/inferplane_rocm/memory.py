"""Memory of an AMD GPU: torch's figure where this process holds memory of it, checked against
amdsmi's; amdsmi's alone where it does not, since torch's would make a context first.

Sources: HIP Runtime API, hipMemGetInfo; AMD SMI documentation, amdsmi_get_gpu_memory_total and
amdsmi_get_gpu_memory_usage (bytes).
"""

from __future__ import annotations

import sys

from inferplane.spec import DeviceProps, MemoryInfo

from .management import NoSMI, by_address, smi


def memory_info(props: DeviceProps) -> MemoryInfo:
    known = sys.modules.get("torch")
    held = int(known.cuda.memory_reserved(props.index)) if known is not None else 0
    says = _by_smi(props.detail("pci"))
    if not held and isinstance(says, MemoryInfo):
        return says
    import torch

    free, total = torch.cuda.mem_get_info(props.index)
    return MemoryInfo(
        free_bytes=int(free),
        total_bytes=int(total),
        source="hipMemGetInfo",
        unified="unified_memory" in props.capabilities,
        used_by_us_bytes=held,
    ).checked_by(says)


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
