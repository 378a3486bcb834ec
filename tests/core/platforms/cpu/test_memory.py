"""Memory limits of control groups, read from a made-up root."""

from pathlib import Path

import pytest

from inferplane.platforms.cpu.memory import memory_info

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="unit", est_seconds=2)

GIB = 1 << 30


@pytest.fixture
def root(tmp_path):
    """A machine of 64 GiB, 40 of them free."""
    write(tmp_path, "proc/meminfo", f"MemTotal: {64 << 20} kB\nMemAvailable: {40 << 20} kB\n")
    return tmp_path


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def version_two(root: Path, folder: str, limit: str, used: int, inactive: int = 0) -> None:
    write(root, f"sys/fs/cgroup/{folder}memory.max", f"{limit}\n")
    write(root, f"sys/fs/cgroup/{folder}memory.current", f"{used}\n")
    write(root, f"sys/fs/cgroup/{folder}memory.stat", f"anon 5\ninactive_file {inactive}\n")


def test_no_groups_give_the_machine(root):
    found = memory_info(root)
    assert (found.total_bytes, found.free_bytes) == (64 * GIB, 40 * GIB)
    assert found.source == "/proc/meminfo"


def test_the_hosts_memory_is_unified(root):
    assert memory_info(root).unified


def test_without_proc_the_system_is_asked(tmp_path):
    found = memory_info(tmp_path)
    assert found.source == "sysconf"
    assert 0 < found.free_bytes < found.total_bytes


def test_a_damaged_meminfo_asks_the_system(tmp_path):
    write(tmp_path, "proc/meminfo", "MemTotal: many kB\n")
    assert memory_info(tmp_path).source == "sysconf"


def test_version_two(root):
    write(root, "proc/self/cgroup", "0::/job\n")
    version_two(root, "job/", str(8 * GIB), 3 * GIB)
    found = memory_info(root)
    assert (found.total_bytes, found.free_bytes) == (8 * GIB, 5 * GIB)
    assert found.source.endswith("job/memory.max")


def test_version_two_gives_back_inactive_page_cache(root):
    write(root, "proc/self/cgroup", "0::/job\n")
    version_two(root, "job/", str(8 * GIB), 3 * GIB, inactive=GIB)
    assert memory_info(root).free_bytes == 6 * GIB


def test_version_two_without_a_limit(root):
    write(root, "proc/self/cgroup", "0::/job\n")
    version_two(root, "job/", "max", 3 * GIB)
    assert memory_info(root).total_bytes == 64 * GIB


def test_in_a_namespace_the_group_is_the_root(root):
    write(root, "proc/self/cgroup", "0::/\n")
    version_two(root, "", str(4 * GIB), GIB)
    assert memory_info(root).total_bytes == 4 * GIB


def test_a_group_around_ours_limits_too(root):
    write(root, "proc/self/cgroup", "0::/outer/inner\n")
    version_two(root, "outer/", str(4 * GIB), GIB)
    version_two(root, "outer/inner/", str(16 * GIB), GIB)
    found = memory_info(root)
    assert (found.total_bytes, found.free_bytes) == (4 * GIB, 3 * GIB)


def test_the_smallest_free_share_of_nested_groups_counts(root):
    write(root, "proc/self/cgroup", "0::/outer/inner\n")
    version_two(root, "outer/", str(16 * GIB), 15 * GIB)
    version_two(root, "outer/inner/", str(8 * GIB), 2 * GIB)
    found = memory_info(root)
    assert (found.total_bytes, found.free_bytes) == (8 * GIB, GIB)


def test_an_overdrawn_group_has_nothing_free(root):
    write(root, "proc/self/cgroup", "0::/job\n")
    version_two(root, "job/", str(8 * GIB), 9 * GIB)
    assert memory_info(root).free_bytes == 0


def test_version_one(root):
    write(root, "proc/self/cgroup", "5:cpu:/other\n4:memory:/job\n")
    base = "sys/fs/cgroup/memory/job/memory"
    write(root, f"{base}.limit_in_bytes", str(6 * GIB))
    write(root, f"{base}.usage_in_bytes", str(2 * GIB))
    write(root, f"{base}.stat", f"inactive_file 1\ntotal_inactive_file {GIB}\n")
    found = memory_info(root)
    assert (found.total_bytes, found.free_bytes) == (6 * GIB, 5 * GIB)


def test_version_one_without_a_limit(root):
    write(root, "proc/self/cgroup", "4:memory:/job\n")
    write(root, "sys/fs/cgroup/memory/job/memory.limit_in_bytes", "9223372036854771712")
    assert memory_info(root).total_bytes == 64 * GIB


def test_a_damaged_group_line_is_passed_over(root):
    write(root, "proc/self/cgroup", "nonsense\n0::/job\n")
    version_two(root, "job/", str(8 * GIB), GIB)
    assert memory_info(root).total_bytes == 8 * GIB
