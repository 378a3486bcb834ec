"""Memory through amdsmi (V2e: the published package over a C library)."""

from __future__ import annotations

import pytest
import torch
from inferplane_rocm.management import NoSMI
from inferplane_rocm.management import smi as open_smi
from inferplane_rocm.memory import host_memory, memory_info
from inferplane_rocm.plugin import inferplane_settings
from inferplane_rocm.profiles import make_props
from platforms.rocm.tests.conftest import symbols, written

from inferplane.spec import GiB

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=5)


def props(address: str, unified: bool = False):
    return make_props(
        name="a",
        profile="a",
        memory_bytes=192 * GiB,
        gfx="gfx942",
        cores=1,
        details={"pci": address},
        unified=unified,
    )


@pytest.fixture
def use_torch(monkeypatch):
    """(free GiB, held GiB, total GiB): what torch says."""

    def use(free: float, held: float, total: float = 192) -> None:
        says = int(free * GiB), int(total * GiB)
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda index: int(held * GiB))
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: says)

    return use


def test_the_stand_in_has_only_functions_that_the_published_package_calls(smi):
    assert written() <= symbols()
    assert len(symbols()) == 184


def test_a_process_that_holds_nothing_asks_amdsmi_alone(smi, use_torch):
    use_torch(1, 0)
    smi.add()
    address = smi.add(used=50 * GiB)
    info = memory_info(props(address))
    assert (info.free_bytes, info.total_bytes, info.source) == (142 * GiB, 192 * GiB, "amdsmi")


def test_where_both_agree_hips_figure_counts(smi, use_torch):
    use_torch(189.5, 2)
    info = memory_info(props(smi.add()))
    assert info.source == "hipMemGetInfo, as amdsmi"
    assert (info.free_bytes, info.used_by_us_bytes) == (int(189.5 * GiB), 2 * GiB)


def test_where_they_disagree_the_smaller_counts(smi, use_torch):
    use_torch(189.5, 2)
    info = memory_info(props(smi.add(used=100 * GiB)))
    assert info.free_bytes == 92 * GiB
    assert "disagree" in info.source


@pytest.mark.parametrize("address", ["0000:01:00.0", ""])
def test_a_gpu_that_amdsmi_does_not_know_is_told(address, smi, use_torch):
    use_torch(3, 0)
    smi.add()
    assert "amdsmi has no GPU at" in memory_info(props(address)).source


def test_a_figure_that_amdsmi_lacks_is_told(smi, use_torch):
    use_torch(3, 0)
    info = memory_info(props(smi.add(total=0)))
    assert info.free_bytes == 3 * GiB
    assert "hipMemGetInfo (amdsmi: " in info.source


def test_a_library_that_does_not_start_is_told(smi, use_torch):
    use_torch(3, 0)
    smi.state.init = 34
    assert "hipMemGetInfo (amdsmi: " in memory_info(props("")).source


def test_without_its_library_the_package_says_so_and_prints_nothing(no_smi, capsys):
    reason = r"KeyError: 'libamd_smi.so'.*Unable to find libamd_smi.so"
    with pytest.raises(NoSMI, match=reason), open_smi():
        pass
    assert capsys.readouterr().out == ""


@pytest.fixture
def host(monkeypatch):
    """(available GiB, total GiB): the host's memory."""

    def use(available: float, total: float) -> None:
        found = int(available * GiB), int(total * GiB)
        monkeypatch.setattr("inferplane_rocm.memory.host_memory", lambda: found)

    return use


@pytest.mark.parametrize("held", [0, 2])
def test_a_part_that_takes_the_hosts_memory_has_what_the_host_would_give(
    held, smi, use_torch, host
):
    """amdsmi tells of the few MiB that the firmware set aside; HIP counts GPU programs alone."""
    use_torch(60, held, total=64)
    host(20, 125)
    info = memory_info(props(smi.add(total=512 << 20, used=500 << 20), unified=True))
    assert (info.free_bytes, info.total_bytes, info.unified) == (20 * GiB, 64 * GiB, True)
    assert "hipMemGetInfo says 60.0 GiB free" in info.source


def test_what_hip_says_counts_where_the_host_would_give_more(no_smi, use_torch, host):
    use_torch(30, 1, total=64)
    host(100, 125)
    info = memory_info(props("", unified=True))
    assert (info.free_bytes, info.used_by_us_bytes) == (30 * GiB, GiB)


def test_memory_that_the_firmware_set_aside_is_not_the_hosts(no_smi, use_torch, host):
    use_torch(90, 1, total=96)
    host(5, 31)
    info = memory_info(props("", unified=True))
    assert (info.free_bytes, info.total_bytes) == (90 * GiB, 96 * GiB)


def test_the_hosts_memory_is_read_from_the_kernels_file(tmp_path):
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:  1000 kB\nMemFree:  10 kB\nMemAvailable:  400 kB\nHugePages: 0\n")
    assert host_memory(file) == (400 << 10, 1000 << 10)


def test_a_part_that_takes_the_hosts_memory_leaves_more_of_it():
    (proposal,) = inferplane_settings({}, props("", unified=True))
    assert (proposal.key, proposal.value) == ("memory_fraction", 0.7)
    assert inferplane_settings({}, props("")) == []
