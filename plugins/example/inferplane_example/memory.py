"""Memory of the device: here, the host's."""

from __future__ import annotations

import os

from inferplane.spec import MemoryInfo


def memory_info() -> MemoryInfo:
    """Where the system does not tell the free memory, half of all is taken for free."""
    page, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    tells = "SC_AVPHYS_PAGES" in os.sysconf_names
    free = os.sysconf("SC_AVPHYS_PAGES") if tells else pages // 2
    return MemoryInfo(
        free_bytes=page * free, total_bytes=page * pages, source="sysconf", unified=True
    )
