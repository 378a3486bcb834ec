"""amdsmi over a small C library, and AITER as a module with its real signatures."""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from inferplane_rocm import probe as probes
from platforms.rocm.tests import emulated

SOURCE = Path(__file__).with_name("amdsmi.c")


class Gpu(ctypes.Structure):
    """As in amdsmi.c."""

    _fields_ = (
        ("bdf", ctypes.c_uint64),
        ("total", ctypes.c_uint64),
        ("used", ctypes.c_uint64),
    )


class State(ctypes.Structure):
    _fields_ = (
        ("init", ctypes.c_int),
        ("count", ctypes.c_int),
        ("links", (ctypes.c_uint32 * 8) * 8),
        ("gpus", Gpu * 8),
    )


class SMI:
    """The stand-in."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.state = State.in_dll(library, "state")
        ctypes.memset(ctypes.byref(self.state), 0, ctypes.sizeof(self.state))

    def add(self, total: int = 192 << 30, used: int = 2 << 30) -> str:
        """Gives the GPU's PCI address."""
        at = self.state.count
        gpu = self.state.gpus[at]
        gpu.bdf, gpu.total, gpu.used = (0xC1 + at) << 8, total, used
        self.state.count += 1
        return f"0000:{0xC1 + at:02x}:00.0"

    def join(self, kind: int) -> None:
        """The same link between all."""
        for one in range(8):
            for other in range(8):
                self.state.links[one][other] = kind


def wrapper() -> Path:
    """The published package's bindings. Skips where it is not installed."""
    try:
        files = importlib.metadata.files("amdsmi") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package amdsmi is not installed: pip install amdsmi==7.0.2")
    return next(Path(str(f.locate())) for f in files if f.name == "amdsmi_wrapper.py")


def symbols() -> set[str]:
    """Every function that the bindings look up when they are imported."""
    text = wrapper().read_text(encoding="utf-8")
    return set(re.findall(r"= _libraries\['libamd_smi\.so'\]\.(\w+)", text))


def written() -> set[str]:
    """The functions of amdsmi.c."""
    return set(re.findall(r"^int (amdsmi_\w+)\(", SOURCE.read_text(), re.MULTILINE))


@pytest.fixture(scope="session")
def smi_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like ROCm's, with lib/libamd_smi.so: amdsmi.c, and stubs of all other functions."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("rocm")
    stubs = [f"int {name}() {{ return 2; }}" for name in sorted(symbols() - written())]
    (folder / "stubs.c").write_text("\n".join(stubs) + "\n")
    (folder / "lib").mkdir()
    made = folder / "lib" / "libamd_smi.so"
    flags = ["-shared", "-fPIC", "-Wl,-Bsymbolic"]  # `state` is its own, whatever else is loaded
    command = [compiler, *flags, str(SOURCE), str(folder / "stubs.c"), "-o", str(made)]
    subprocess.run(command, check=True)
    return folder


def forget() -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == "amdsmi"]:
        del sys.modules[name]


@pytest.fixture
def smi(smi_library: Path, monkeypatch: pytest.MonkeyPatch):
    """The real package over the stand-in, imported anew."""
    monkeypatch.setenv("ROCM_PATH", str(smi_library))
    monkeypatch.delenv("ROCM_HOME", raising=False)
    forget()
    yield SMI(ctypes.CDLL(str(smi_library / "lib" / "libamd_smi.so")))
    forget()


@pytest.fixture
def no_smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The real package, without its library."""
    wrapper()
    monkeypatch.setenv("ROCM_PATH", str(tmp_path))
    forget()
    yield
    forget()


@pytest.fixture
def aiter(monkeypatch: pytest.MonkeyPatch) -> None:
    """AITER's module, emulated."""
    names = (
        "aiter",
        "aiter.fused_moe",
        "aiter.ops",
        "aiter.ops.shuffle",
        "aiter.ops.triton",
        "aiter.ops.triton.attention",
        "aiter.ops.triton.attention.unified_attention",
    )
    for name in names:
        module = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], last, module)
    for name in ("rmsnorm2d_fwd", "rmsnorm2d_fwd_with_add", "gemm_a8w8", "gemm_a8w8_bpreshuffle"):
        setattr(sys.modules["aiter"], name, getattr(emulated, name))
    others = (
        "per_token_quant_hip",
        "mha_batch_prefill_func",
        "topk_softmax",
        "biased_grouped_topk_hip",
    )
    for name in (*others, "ActivationType", "QuantType"):
        setattr(sys.modules["aiter"], name, getattr(emulated, name))
    sys.modules["aiter.fused_moe"].__dict__["fused_moe"] = emulated.fused_moe
    sys.modules["aiter.ops.shuffle"].__dict__["shuffle_weight"] = emulated.shuffle_weight
    sys.modules[names[-1]].__dict__["unified_attention"] = emulated.unified_attention


@pytest.fixture
def run_python() -> Callable[[str], str]:
    """What a fresh Python prints for some code. Fails with its errors."""

    def run(code: str) -> str:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


class Properties:
    """What torch 2.13 for ROCm tells of an MI300X."""

    name, gcnArchName = "AMD Instinct MI300X", "gfx942:sramecc+:xnack-"
    total_memory, multi_processor_count = 192 << 30, 304
    pci_domain_id, pci_device_id = 0, 0

    def __init__(self, bus: int) -> None:
        self.pci_bus_id = bus


@pytest.fixture
def hip_torch(monkeypatch, tmp_path):
    """(count, first): torch for HIP, with so many GPUs, from this one of the host on. Gives the
    driver's file."""
    file = tmp_path / "kfd"
    file.touch()

    def use(count: int, first: int = 0):
        monkeypatch.setattr(probes, "torch_build", lambda: {"__version__": "2.13", "hip": "7.0"})
        monkeypatch.setattr(torch.cuda, "init", lambda: None)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(
            torch.cuda, "get_device_properties", lambda i: Properties(0xC1 + first + i)
        )
        return file

    return use
