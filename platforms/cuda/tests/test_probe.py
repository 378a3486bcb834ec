"""The probe over NVML: what is found, and why nothing is (V2e: a C library in NVML's ABI)."""

from __future__ import annotations

import ast
import ctypes
import importlib
import re
from functools import cache
from pathlib import Path

import pynvml
import pytest
from inferplane_cuda import probe as probes
from inferplane_cuda.probe import probe

pytestmark = pytest.mark.ci(platforms=["cpu"], suite="plugins", est_seconds=3)

CUDA_BUILD = {"__version__": "2.13.0+cu130", "cuda": "13.0"}
C_SOURCE = Path(__file__).with_name("nvml.c").read_text(encoding="utf-8")


@pytest.fixture
def cuda_torch(monkeypatch):
    monkeypatch.setattr(probes, "torch_build", lambda: CUDA_BUILD)


def exported() -> dict[str, int]:
    """Functions of nvml.c, with the number of their parameters."""
    found = re.findall(r"^(?:int|const char \*)\s?(nvml\w+)\(([^)]*)\)", C_SOURCE, re.MULTILINE)
    return {name: 0 if args == "void" else len(args.split(",")) for name, args in found}


@cache
def called() -> dict[str, set[int]]:
    """Functions that the published package calls, with the number of arguments it gives."""
    found: dict[str, set[int]] = {}
    for function in ast.walk(ast.parse(Path(pynvml.__file__).read_text(encoding="utf-8"))):
        if not isinstance(function, ast.FunctionDef):
            continue
        names = set()
        for node in ast.walk(function):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id == "_nvmlGetFunctionPointer" and isinstance(node.args[0], ast.Constant):
                names.add(node.args[0].value)
        counts = {
            len(node.args)
            for node in ast.walk(function)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "fn"
        }
        for name in names:
            found.setdefault(name, set()).update(counts)
    return found


@pytest.mark.parametrize("name", exported())
def test_the_stand_in_has_the_prototypes_that_the_published_package_calls(name):
    assert exported()[name] in called()[name]


def test_the_stand_in_has_the_structures_of_the_published_package(nvml):
    sizes = (ctypes.c_ulong * 3).in_dll(nvml.library, "sizes")
    kinds = (pynvml.c_nvmlMemory_t, pynvml.nvmlPciInfo_t, pynvml.c_nvmlDeviceAttributes)
    assert list(sizes) == [ctypes.sizeof(kind) for kind in kinds]


def test_devices_carry_what_planning_needs(nvml, cuda_torch):
    nvml.add()
    nvml.add(
        "NVIDIA A100-SXM4-80GB",
        major=8,
        cores=6912,
        free=1 << 30,
    )
    first, second = probe().devices
    assert (first.profile, first.cores, first.memory_bytes) == ("h100", 132, 80 << 30)
    assert {"fp8_e4m3_gemm", "int64_index", "graph_capture", "bf16"} <= first.capabilities
    assert (second.profile, second.cores, second.index) == ("a100", 108, 1)
    assert "fp8_e4m3_gemm" not in second.capabilities
    assert second.detail("uuid") == "GPU-1aaaaaaa-0000-0000-0000-000000000001"


def test_it_imports_no_torch(nvml, run_python):
    code = "import sys; from inferplane_cuda.probe import *; probe(); print('torch' in sys.modules)"
    assert run_python(code).strip() == "False"


@pytest.mark.parametrize(
    ("variable", "found"),
    [
        (None, [0, 1, 2]),
        ("2,0", [2, 0]),
        ("0,7,1", [0]),
        ("1,-1,0", [1]),
        ("GPU-1aaaaaaa-0000-0000-0000-000000000001", [1]),
        ("GPU-2aa, GPU-0aa", [2, 0]),
        ("0,0", [0]),
        ("GPU-", []),
        ("", []),
    ],
)
def test_visible_devices_are_named_by_index_and_uuid(
    variable, found, nvml, cuda_torch, monkeypatch
):
    for _ in range(3):
        nvml.add()
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    uuids = [props.detail("uuid")[4] for props in probe().devices]
    assert uuids == [str(at) for at in found]


def test_a_variable_that_leaves_nothing_is_named(nvml, cuda_torch, monkeypatch):
    nvml.add()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    answer = probe()
    assert "CUDA_VISIBLE_DEVICES is '3', which leaves none of 1 GPUs (GPU-0aaa" in answer.reason
    assert "UUID" in answer.remedy


@pytest.fixture
def partitioned(nvml, cuda_torch):
    """A GPU cut into two instances, and a whole one."""
    cut = nvml.add("NVIDIA A100-SXM4-80GB", mig=1, major=8)
    for _ in range(2):
        nvml.add("NVIDIA A100 MIG 3g.40gb", parent=cut, total=40 << 30, multiprocessors=42)
    nvml.add()
    return nvml


def test_an_instance_is_named_by_its_uuid(partitioned, monkeypatch):
    uuid = "MIG-2aaaaaaa-0000-0000-0000-000000000002"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", uuid)
    (props,) = probe().devices
    assert (props.detail("uuid"), props.memory_bytes, props.cores) == (uuid, 40 << 30, 42)
    assert props.detail("compute_capability") == "8.0"


def test_a_gpu_that_is_cut_stands_for_its_first_instance_alone(partitioned):
    (props,) = probe().devices
    assert props.detail("uuid").startswith("MIG-1")


def test_of_several_instances_only_the_first_is_seen(partitioned, monkeypatch):
    uuids = [f"MIG-{at}aaaaaaa-0000-0000-0000-00000000000{at}" for at in (2, 1)]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(uuids))
    assert [props.detail("uuid") for props in probe().devices] == uuids[:1]


def test_a_gpu_that_is_cut_but_has_no_instance_is_left_out(nvml, cuda_torch):
    nvml.add(mig=1)
    nvml.add()
    (props,) = probe().devices
    assert props.detail("uuid").startswith("GPU-1")


def test_a_part_with_unified_memory_has_the_hosts(nvml, cuda_torch):
    nvml.add("NVIDIA GB10", shares=1, major=12, minor=1)
    (props,) = probe().devices
    total = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) * 1024
    assert props.memory_bytes == total
    assert "unified_memory" in props.capabilities


def test_a_driver_that_is_too_old_is_named_with_both_versions(nvml, cuda_torch):
    nvml.add()
    nvml.state.cuda = 12040
    answer = probe()
    assert "driver 580.95.05 is too old: it has CUDA 12.4" in answer.reason
    assert "built for CUDA 13.0" in answer.reason


def test_a_newer_minor_of_the_driver_s_cuda_is_no_obstacle(nvml, monkeypatch):
    nvml.add()
    nvml.state.cuda = 12040
    monkeypatch.setattr(probes, "torch_build", lambda: {"__version__": "2.11", "cuda": "12.9"})
    assert probe().available


def test_a_driver_without_gpus(nvml, cuda_torch):
    assert probe().reason == "NVIDIA driver 580.95.05 has no GPU"


@pytest.mark.parametrize(
    ("code", "words"),
    [(9, "Driver Not Loaded"), (18, "RM has detected an NVML/RM version mismatch")],
)
def test_nvmls_own_reason_is_given(code, words, nvml, cuda_torch):
    nvml.state.init = code
    answer = probe()
    assert words in answer.reason
    assert answer.remedy


@pytest.mark.parametrize(
    ("build", "words"),
    [
        ({}, "torch is not installed"),
        ({"__version__": "2.13.0+cpu"}, "torch 2.13.0+cpu has no CUDA"),
        ({"__version__": "2.13", "hip": "7.0"}, "built for HIP 7.0, not CUDA"),
    ],
)
def test_a_torch_that_cannot_drive_it_is_named(build, words, monkeypatch):
    monkeypatch.setattr(probes, "torch_build", lambda: build)
    answer = probe()
    assert not answer.available
    assert words in answer.reason
    assert answer.remedy


def test_a_torch_without_cuda_beside_a_working_driver_says_both(nvml, monkeypatch):
    nvml.add()
    monkeypatch.setattr(probes, "torch_build", lambda: {"__version__": "2.13.0+cpu"})
    answer = probe()
    assert "NVIDIA driver 580.95.05 has 1 GPU" in answer.reason
    assert answer.remedy.startswith("install a torch that is built for CUDA")


def test_without_gpu_and_driver_the_remedy_begins_with_the_driver(nvml, monkeypatch):
    nvml.state.init = 12  # NVML_ERROR_LIBRARY_NOT_FOUND
    monkeypatch.setattr(probes, "torch_build", lambda: {"__version__": "2.13.0+cpu"})
    assert probe().remedy.startswith("where there is a GPU, install its driver; then")


class Properties:
    name, major, minor = "Orin", 8, 7
    total_memory, multi_processor_count, is_integrated = 30 << 30, 16, True


def test_without_nvml_torch_is_asked(nvml, cuda_torch, monkeypatch):
    torch = importlib.import_module("torch")
    nvml.state.init = 3
    monkeypatch.setattr(probes.ctypes, "CDLL", lambda name: None)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: Properties())
    (props,) = probe().devices
    assert props.name == "Orin"
    assert "unified_memory" in props.capabilities
    assert props.detail("nvml") == "Not Supported"


def test_torchs_own_reason_is_given(nvml, cuda_torch, monkeypatch):
    nvml.state.init = 3
    torch = importlib.import_module("torch")
    monkeypatch.setattr(probes.ctypes, "CDLL", lambda name: None)

    def broken():
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040)")

    monkeypatch.setattr(torch.cuda, "init", broken)
    assert "too old (found version 11040)" in probe().reason
