"""Compiles the kernels once a machine. No torch: planning asks whether they are there.

The library is kept in the user's cache folder under a name that depends on the sources, the
compiler, the processor and torch's OpenMP library, so a change of any of them compiles anew.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).with_name("source")
COMPILERS = ("g++", "clang++")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fopenmp", "-shared", "-fPIC", "-w")
LIMIT_S = 180
PRODUCTS = frozenset({"avx512bw", "avx512_bf16", "avx512vbmi", "avx512_vnni"})
"""Instruction sets that source/linear.cpp, int8.cpp and experts.cpp are written for."""


@dataclass(frozen=True, slots=True)
class Built:
    """path: the library, None where there is none. reason: why there is none."""

    path: Path | None
    reason: str = ""


@functools.cache
def build() -> Built:
    """The library; compiles it (about 9 s) if this machine has none yet. Never raises."""
    if platform.system() != "Linux":
        return Built(None, f"they are built on Linux, this is {platform.system()}")
    compiler = next((found for name in COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        return Built(None, f"no C++ compiler: {' or '.join(COMPILERS)} would do")
    openmp = torch_openmp()
    if openmp is None:
        return Built(None, "torch's OpenMP library (libgomp) was not found")
    try:
        return _build(compiler, openmp)
    except (OSError, subprocess.SubprocessError) as error:
        return Built(None, f"compiling failed: {_short(error)}")


def _build(compiler: str, openmp: Path) -> Built:
    sources = sorted(SOURCES.iterdir())
    library = cache_folder() / f"kernels-{_key(compiler, openmp, sources)}.so"
    if library.exists():
        return Built(library)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / library.name
        files = [str(source) for source in sources if source.suffix == ".cpp"]
        command = [compiler, *FLAGS, *files, str(openmp), "-o", str(made)]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT_S)
        made.replace(library)  # at once: another process may do the same
    return Built(library)


def _key(compiler: str, openmp: Path, sources: list[Path]) -> str:
    stat = os.stat(compiler)
    parts = [compiler, stat.st_size, stat.st_mtime, openmp, *sorted(cpu_flags()), *FLAGS]
    digest = hashlib.sha256(repr(parts).encode())
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _short(error: Exception) -> str:
    """The compiler's first error, or what the system said."""
    lines = (getattr(error, "stderr", None) or str(error)).splitlines()
    return next((line for line in lines if "error" in line), lines[0] if lines else "?")[:200]


def cache_folder() -> Path:
    """~/.cache/inferplane (or under XDG_CACHE_HOME), for this user only. Raises OSError."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "inferplane"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user")
    return folder


def torch_openmp() -> Path | None:
    """The OpenMP library that torch loads: with another one there would be two thread pools."""
    spec = importlib.util.find_spec("torch")
    for place in (spec.submodule_search_locations or []) if spec else []:
        for folder in (Path(place) / "lib", Path(place).parent / "torch.libs"):
            for found in sorted(folder.glob("libgomp*.so*")):
                return found
    return None


@functools.cache
def cpu_flags() -> frozenset[str]:
    """Instruction sets, as the kernel names them (x86: `flags`, Arm: `Features`)."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return frozenset(line.partition(":")[2].split())
    except OSError:
        pass
    return frozenset()


def details() -> tuple[tuple[str, str], ...]:
    """What `DeviceProps.details` says of these kernels: "native" is "products" where the processor
    has the instructions for products of bf16, of its codes and of bytes; "vector" without them,
    with "native_missing"; or "no" with "native_reason"."""
    built = build()
    if built.path is None:
        return (("native", "no"), ("native_reason", built.reason))
    missing = sorted(PRODUCTS - cpu_flags())
    if missing:
        return (("native", "vector"), ("native_missing", " ".join(missing)))
    return (("native", "products"),)
