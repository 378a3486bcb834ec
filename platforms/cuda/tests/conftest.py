"""NVML over a small C library, and the optional libraries as modules with their real signatures."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from platforms.cuda.tests import emulated

SOURCE = Path(__file__).with_name("nvml.c")


class Gpu(ctypes.Structure):
    """As in nvml.c."""

    _fields_ = (
        ("name", ctypes.c_char * 96),
        ("uuid", ctypes.c_char * 96),
        ("bus", ctypes.c_char * 32),
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("major", ctypes.c_int),
        ("minor", ctypes.c_int),
        ("cores", ctypes.c_int),
        ("multiprocessors", ctypes.c_int),
        ("mig", ctypes.c_int),
        ("parent", ctypes.c_int),
        ("shares", ctypes.c_int),
        ("links", ctypes.c_int),
        ("link_kind", ctypes.c_int * 4),
        ("link_bus", (ctypes.c_char * 32) * 4),
    )


class State(ctypes.Structure):
    _fields_ = (
        ("init", ctypes.c_int),
        ("cuda", ctypes.c_int),
        ("count", ctypes.c_int),
        ("level", ctypes.c_int),
        ("driver", ctypes.c_char * 80),
        ("gpus", Gpu * 8),
    )


class NVML:
    """The stand-in. `add` gives the index of a GPU or instance."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.state = State.in_dll(library, "state")
        self.clear()

    def clear(self) -> None:
        ctypes.memset(ctypes.byref(self.state), 0, ctypes.sizeof(self.state))
        self.state.cuda, self.state.driver, self.state.level = 13000, b"580.95.05", 50

    def add(self, name: str = "NVIDIA H100 80GB HBM3", parent: int = -1, **fields: Any) -> int:
        at = self.state.count
        kind = "GPU" if parent < 0 else "MIG"
        values: dict[str, Any] = {
            "name": name.encode(),
            "uuid": f"{kind}-{at}aaaaaaa-0000-0000-0000-00000000000{at}".encode(),
            "bus": f"00000000:{at + 1:02X}:00.0".encode(),
            "total": 80 << 30,
            "free": 79 << 30,
            "major": 9,
            "minor": 0,
            "cores": 16896,
            "parent": parent,
        }
        for field, value in {**values, **fields}.items():
            setattr(self.state.gpus[at], field, value)
        self.state.count += 1
        return at

    def connect(self, at: int, *ends: tuple[int, str]) -> None:
        """ends: (kind, PCI address) of each NVLink's other end; "" for one that is not active."""
        gpu = self.state.gpus[at]
        gpu.links = len(ends)
        for link, (kind, bus) in enumerate(ends):
            gpu.link_kind[link] = kind
            gpu.link_bus[link].value = bus.encode()


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """nvml.c, loaded under the name that the package nvidia-ml-py asks the linker for."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    made = tmp_path_factory.mktemp("nvml") / "libnvidia-ml.so.1"
    flags = ["-shared", "-fPIC", "-Wl,-Bsymbolic", "-Wl,-soname,libnvidia-ml.so.1"]
    subprocess.run([compiler, *flags, str(SOURCE), "-o", str(made)], check=True)
    return ctypes.CDLL(str(made))


@pytest.fixture
def nvml(nvml_library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> NVML:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return NVML(nvml_library)


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The optional libraries' modules, emulated."""
    monkeypatch.setattr("inferplane_cuda.attention._WORKSPACE_BYTES", 1024)
    made = {
        "flashinfer": {
            "BatchDecodeWithPagedKVCacheWrapper": emulated.BatchDecodeWithPagedKVCacheWrapper,
            "BatchPrefillWithPagedKVCacheWrapper": emulated.BatchPrefillWithPagedKVCacheWrapper,
        },
        "flash_attn": {},
        "flash_attn.flash_attn_interface": {
            "flash_attn_varlen_func": emulated.flash_attn_varlen_func
        },
        "flash_attn_interface": {"flash_attn_with_kvcache": emulated.flash_attn_with_kvcache},
    }
    for name, members in made.items():
        module = ModuleType(name)
        module.__dict__.update(members)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def run_python() -> Callable[[str], str]:
    """What a fresh Python prints for some code. Fails with its errors."""

    def run(code: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
