"""Memory that this process may use: the smallest of its control groups' limits and the machine's.

Sources: Linux Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst, proc_meminfo(5).
"""

from __future__ import annotations

import os
from pathlib import Path

from inferplane.spec import MemoryInfo

_UNLIMITED = 1 << 60  # version 1 writes a huge number for "no limit"


def memory_info(root: Path = Path("/")) -> MemoryInfo:
    """root: for tests. Falls back on sysconf where there is no /proc."""
    total, free, source = _machine(root)
    machine = min(total, _UNLIMITED)
    for path, limit_file, used_file, stat_key in _groups(root):
        limit = _number(path / limit_file)
        if limit is None or limit >= machine:
            continue
        used = (_number(path / used_file) or 0) - _reclaimable(path / "memory.stat", stat_key)
        free = min(free, max(limit - used, 0))
        if limit < total:
            total, source = limit, str(path / limit_file)
    return MemoryInfo(free_bytes=min(free, total), total_bytes=total, source=source, unified=True)


def _machine(root: Path) -> tuple[int, int, str]:
    try:
        fields = {}
        for line in (root / "proc/meminfo").read_text().splitlines():
            name, _, value = line.partition(":")
            fields[name] = int(value.split()[0]) * 1024
        return fields["MemTotal"], fields["MemAvailable"], "/proc/meminfo"
    except (OSError, KeyError, ValueError, IndexError):
        page = os.sysconf("SC_PAGE_SIZE")
        total = os.sysconf("SC_PHYS_PAGES") * page
        return total, total // 2, "sysconf"


def _groups(root: Path) -> list[tuple[Path, str, str, str]]:
    """(folder, limit file, usage file, key of reclaimable memory) of this process's groups."""
    found = []
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        if line.count(":") < 2:
            continue
        hierarchy, controllers, path = line.split(":", 2)
        if hierarchy == "0":
            base, files = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = root / "sys/fs/cgroup/memory"
            files = (
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            )
        else:
            continue
        folder = base / path.lstrip("/")
        for place in (folder, *folder.parents):
            found.append((place, *files))
            if place == base:
                break
    return found


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _reclaimable(path: Path, key: str) -> int:
    """Bytes of page cache that the kernel takes back before it refuses memory."""
    try:
        for line in path.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return int(value)
    except (OSError, ValueError):
        return 0
    return 0
