"""How the GPUs of this host are joined, from NVML.

Source: NVML API Reference Guide, "NvLink Methods" and `nvmlDeviceGetTopologyCommonAncestor`.
"""

from __future__ import annotations

import os
from typing import Any

from inferplane.spec import DeviceProps, LinkTopology

from .management import nvml

# nvmlGpuTopologyLevel_t: the closest thing that two GPUs have in common
_PCIE = {
    0: "pcie:board",
    10: "pcie:switch",
    20: "pcie:switches",
    30: "pcie:host-bridge",
    40: "pcie:node",
    50: "pcie:system",
}
_FAST = ("nvlink", "nvswitch")


def topology(props: DeviceProps) -> LinkTopology:
    """Between all GPUs that this program sees."""
    from .probe import visible

    with nvml() as lib:
        handles = visible(lib, os.environ.get("CUDA_VISIBLE_DEVICES"))
        return LinkTopology(
            tuple(tuple("" if a is b else link(lib, a, b) for b in handles) for a in handles)
        )


def links_of(lib: Any, handles: list[Any]) -> str:
    """One word for all of them: "nvlink", "nvswitch" if every pair has it, else "pcie"; "" for one
    GPU."""
    kinds = {link(lib, a, b) for i, a in enumerate(handles) for b in handles[i + 1 :]}
    if not kinds:
        return ""
    return max(kinds) if kinds <= set(_FAST) else "pcie"


def link(lib: Any, one: Any, other: Any) -> str:
    """ "nvlink" for a direct one, "nvswitch", or what the two have in common on PCIe."""
    ends, address = _remotes(lib, one), _text(lib.nvmlDeviceGetPciInfo(other).busId)
    if any(end == address for _, end in ends):
        return "nvlink"
    switch = lib.NVML_NVLINK_DEVICE_TYPE_SWITCH
    if all(any(kind == switch for kind, _ in e) for e in (ends, _remotes(lib, other))):
        return "nvswitch"
    try:
        return _PCIE.get(lib.nvmlDeviceGetTopologyCommonAncestor(one, other), "pcie")
    except lib.NVMLError:
        return "pcie"


def _remotes(lib: Any, handle: Any) -> list[tuple[int, str]]:
    """(kind of device, PCI address) at the other end of every active NVLink."""
    found = []
    for at in range(lib.NVML_NVLINK_MAX_LINKS):
        try:
            if lib.nvmlDeviceGetNvLinkState(handle, at) != lib.NVML_FEATURE_ENABLED:
                continue
            end = lib.nvmlDeviceGetNvLinkRemotePciInfo(handle, at)
        except lib.NVMLError:  # no such link
            break
        found.append((_kind(lib, handle, at), _text(end.busId)))
    return found


def _kind(lib: Any, handle: Any, at: int) -> int:
    try:
        return int(lib.nvmlDeviceGetNvLinkRemoteDeviceType(handle, at))
    except lib.NVMLError:  # drivers before 510
        return int(lib.NVML_NVLINK_DEVICE_TYPE_UNKNOWN)


def _text(bus: bytes | str) -> str:
    return (bus.decode() if isinstance(bus, bytes) else bus).lower()
