"""Looks for GPUs: what torch was built for, then the driver through NVML. Imports torch only where
NVML cannot tell, since that takes seconds and touches the device.

Sources: CUDA C++ Programming Guide, "CUDA Environment Variables" (CUDA_VISIBLE_DEVICES);
NVIDIA MIG User Guide, "Device Enumeration"; CUDA Compatibility (minor versions).
"""

from __future__ import annotations

import ctypes
import os
from importlib.util import find_spec
from typing import Any

from inferplane.spec import DeviceProps, Probe, torch_build

from .libraries import library_details
from .management import NoNVML, memory_of, nvml
from .memory import system_memory
from .profiles import make_props, parse, profile_of
from .topology import links_of

_CORES_AN_SM = {(7, 0): 64, (7, 2): 64, (7, 5): 64, (8, 0): 64}  # 128 in all later ones
_INSTALL = "install a torch that is built for CUDA (pytorch.org, Get Started)"
_TOO_OLD = "update the NVIDIA driver, or install a torch that was built for an older CUDA"


def probe() -> Probe:
    build = torch_build()
    if not build:
        return Probe.missing("torch is not installed", "pip install torch")
    version = build.get("__version__", "of unknown version")
    if "hip" in build:
        return Probe.missing(
            f"torch {version} is built for HIP {build['hip']}, not CUDA",
            "for AMD GPUs, pip install inferplane-rocm and --device rocm; for NVIDIA GPUs, install "
            "a torch that is built for CUDA",
        )
    if "cuda" not in build:
        state, works = driver_state()
        remedy = _INSTALL if works else f"where there is a GPU, install its driver; then {_INSTALL}"
        return Probe.missing(f"torch {version} has no CUDA; {state}", remedy)
    try:
        with nvml() as lib:
            return _by_nvml(lib, build["cuda"])
    except NoNVML as error:
        return _by_torch(version, str(error))


def driver_state() -> tuple[str, bool]:
    """The driver's own words on whether it works, and whether it does."""
    try:
        with nvml() as lib:
            count = lib.nvmlDeviceGetCount()
            driver = lib.nvmlSystemGetDriverVersion()
            return f"NVIDIA driver {driver} has {count} GPU{'s' * (count != 1)}", True
    except NoNVML as error:
        return f"NVIDIA driver: {error}", False


def _by_nvml(lib: Any, cuda: str) -> Probe:
    driver, most = lib.nvmlSystemGetDriverVersion(), lib.nvmlSystemGetCudaDriverVersion_v2()
    if most // 1000 < parse(cuda)[0]:
        return Probe.missing(
            f"NVIDIA driver {driver} is too old: it has CUDA {most // 1000}.{most % 1000 // 10}, "
            f"torch was built for CUDA {cuda}",
            _TOO_OLD,
        )
    count = lib.nvmlDeviceGetCount()
    if not count:
        return Probe.missing(f"NVIDIA driver {driver} has no GPU", "check nvidia-smi and lspci")
    variable = os.environ.get("CUDA_VISIBLE_DEVICES")
    handles = visible(lib, variable)
    if not handles:
        known = ", ".join(lib.nvmlDeviceGetUUID(all_gpus(lib)[i]) for i in range(count))
        return Probe.missing(
            f"CUDA_VISIBLE_DEVICES is {variable!r}, which leaves none of {count} GPUs ({known})",
            "unset it, or name GPUs by index, UUID or MIG UUID",
        )
    links = links_of(lib, handles)
    return Probe.found([_props(lib, handle, links) for handle in handles])


def all_gpus(lib: Any) -> list[Any]:
    """In the order of PCI addresses."""
    return [lib.nvmlDeviceGetHandleByIndex(i) for i in range(lib.nvmlDeviceGetCount())]


def visible(lib: Any, variable: str | None) -> list[Any]:
    """Handles of the GPUs that a CUDA program sees, in its order.

    As in CUDA: the list ends before the first entry that names no device; a UUID may be cut as long
    as it is unique; a program sees one MIG instance at most, and then nothing else; a GPU in MIG
    mode stands for its first instance.
    """
    gpus = all_gpus(lib)
    if variable is None:
        chosen = gpus
    else:
        chosen = []
        for entry in variable.split(","):
            handle = _named(lib, gpus, entry.strip())
            uuids = [lib.nvmlDeviceGetUUID(other) for other in chosen]
            if handle is None or lib.nvmlDeviceGetUUID(handle) in uuids:
                break
            chosen.append(handle)
    chosen = [_instance(lib, handle) for handle in chosen]
    migs = [h for h in chosen if h is not None and lib.nvmlDeviceGetUUID(h).startswith("MIG-")]
    return migs[:1] or [h for h in chosen if h is not None]


def _named(lib: Any, gpus: list[Any], entry: str) -> Any:
    """The handle of one entry, or None."""
    if entry.isdigit():
        return gpus[int(entry)] if int(entry) < len(gpus) else None
    if entry.startswith("GPU-"):
        matches = [gpu for gpu in gpus if lib.nvmlDeviceGetUUID(gpu).startswith(entry)]
        return matches[0] if len(matches) == 1 else None
    if entry.startswith("MIG-"):
        try:
            return lib.nvmlDeviceGetHandleByUUID(entry)
        except lib.NVMLError:
            return None
    return None


def _instance(lib: Any, handle: Any) -> Any:
    """The GPU itself; of one in MIG mode its first instance, None if it has none."""
    try:
        on, _ = lib.nvmlDeviceGetMigMode(handle)
    except lib.NVMLError:  # parts without MIG, and instances
        return handle
    if not on:
        return handle
    try:
        return lib.nvmlDeviceGetMigDeviceHandleByIndex(handle, 0)
    except lib.NVMLError:
        return None


def _props(lib: Any, handle: Any, links: str) -> DeviceProps:
    name, uuid = lib.nvmlDeviceGetName(handle), lib.nvmlDeviceGetUUID(handle)
    whole = handle
    if uuid.startswith("MIG-"):
        whole = lib.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
    capability = tuple(lib.nvmlDeviceGetCudaComputeCapability(whole))
    memory = memory_of(lib, handle)
    return make_props(
        name=name,
        profile=profile_of(name),
        memory_bytes=memory[1] if memory else system_memory()[1],
        compute_capability=capability,
        cores=_cores(lib, handle, capability),
        details={"uuid": uuid, "links": links, **library_details()},
        triton=find_spec("triton") is not None,
        unified=memory is None,
    )


def _cores(lib: Any, handle: Any, capability: tuple[int, ...]) -> int:
    """Streaming multiprocessors; 0 when NVML does not tell."""
    try:
        if lib.nvmlDeviceGetUUID(handle).startswith("MIG-"):
            return int(lib.nvmlDeviceGetAttributes(handle).multiprocessorCount)
        each = _CORES_AN_SM.get((capability[0], capability[1]), 128)
        return int(lib.nvmlDeviceGetNumGpuCores(handle)) // each
    except lib.NVMLError:
        return 0


def _by_torch(version: str, nvml_says: str) -> Probe:
    """For systems with a driver but no NVML, such as Jetson."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        reason = f"no NVIDIA driver: {error}; NVML: {nvml_says}"
        return Probe.missing(reason, "install the NVIDIA driver")
    if "mismatch" in nvml_says:
        remedy = "the kernel module and the driver's libraries differ: reload it, or reboot"
        return Probe.missing(f"NVML: {nvml_says}", remedy)
    import torch

    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return Probe.missing(f"{error}; NVML: {nvml_says}", _TOO_OLD)
    found = []
    for index in range(torch.cuda.device_count()):
        known = torch.cuda.get_device_properties(index)
        shared = bool(getattr(known, "is_integrated", False))
        props = make_props(
            name=known.name,
            profile=profile_of(known.name),
            memory_bytes=system_memory()[1] if shared else known.total_memory,
            compute_capability=(known.major, known.minor),
            cores=known.multi_processor_count,
            details={"nvml": nvml_says, **library_details()},
            triton=find_spec("triton") is not None,
            unified=shared,
        )
        found.append(props)
    if not found:
        return Probe.missing(f"torch {version} sees no GPU; NVML: {nvml_says}", "check nvidia-smi")
    return Probe.found(found)
