"""Looks for GPUs: what torch was built for, then the kernel driver, then torch itself.

Sources: ROCm documentation, "Post-installation instructions" (/dev/kfd, the group render) and
"GPU isolation techniques" (ROCR_, HIP_ and CUDA_VISIBLE_DEVICES).
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from inferplane.spec import DeviceProps, Probe, torch_build

from .libraries import library_details
from .profiles import make_props, profile_of
from .topology import slowest_link

_VARIABLES = ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
_INSTALL = "install a torch that is built for ROCm (pytorch.org, Get Started)"


def probe(kfd: Path = Path("/dev/kfd")) -> Probe:
    build = torch_build()
    if not build:
        return Probe.missing("torch is not installed", _INSTALL)
    version = build.get("__version__", "of unknown version")
    if "cuda" in build:
        return Probe.missing(
            f"torch {version} is built for CUDA {build['cuda']}, not HIP",
            f"{_INSTALL}; for NVIDIA GPUs, pip install inferplane-cuda and --device cuda",
        )
    if "hip" not in build:
        remedy = ("" if kfd.exists() else "where there is a GPU, install amdgpu; then ") + _INSTALL
        return Probe.missing(f"torch {version} has no HIP; {driver_state(kfd)}", remedy)
    if not kfd.exists():
        return Probe.missing(
            driver_state(kfd),
            f"install the amdgpu driver; in a container, pass --device {kfd} --device /dev/dri",
        )
    if not os.access(kfd, os.R_OK | os.W_OK):
        return Probe.missing(f"no permission for {kfd}", "add this user to the group render")
    return _by_torch(version)


def driver_state(kfd: Path) -> str:
    """Whether the kernel driver is there."""
    missing = f"no AMD GPU driver: {kfd} does not exist"
    return f"the AMD driver has {kfd}" if kfd.exists() else missing


def visible() -> list[Any]:
    """What torch tells of each GPU that this process sees. Raises RuntimeError, AssertionError."""
    import torch

    torch.cuda.init()
    return [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]


def _by_torch(version: str) -> Probe:
    found, why = [], "it sees no GPU"
    try:
        found = visible()
    except (RuntimeError, AssertionError) as error:
        why = str(error)
    if not found:
        given = [f"{name} is {os.environ[name]!r}" for name in _VARIABLES if name in os.environ]
        reason = f"torch {version}: {why}; {', '.join(given) or 'no variable hides any'}"
        return Probe.missing(reason, f"check rocminfo, and {', '.join(_VARIABLES)}")
    links = slowest_link([address(known) for known in found])
    return Probe.found([_props(known, links) for known in found])


def address(gpu: Any) -> str:
    """The PCI address, "" where torch does not tell it."""
    domain, bus, device = (getattr(gpu, f"pci_{p}_id", None) for p in ("domain", "bus", "device"))
    return "" if bus is None else f"{domain or 0:04x}:{bus:02x}:{device or 0:02x}.0"


def _props(known: Any, links: str) -> DeviceProps:
    gfx = known.gcnArchName.partition(":")[0]  # "gfx942:sramecc+:xnack-"
    return make_props(
        name=known.name,
        profile=profile_of(known.name, gfx),
        memory_bytes=known.total_memory,
        gfx=gfx,
        cores=known.multi_processor_count,
        details={"pci": address(known), "links": links, **library_details()},
        triton=find_spec("triton") is not None,
        unified=bool(getattr(known, "is_integrated", False)),
    )
