"""Memory of a device, in bytes."""

from __future__ import annotations

import os

from inferplane.spec import DeviceProps, MemoryInfo


def memory_info(props: DeviceProps) -> MemoryInfo:
    """change: ask your library about device `props.index`. This is the host's memory."""
    page, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    tells = "SC_AVPHYS_PAGES" in os.sysconf_names
    free = os.sysconf("SC_AVPHYS_PAGES") if tells else pages // 2
    return MemoryInfo(
        free_bytes=page * free, total_bytes=page * pages, source="sysconf", unified=True
    )
