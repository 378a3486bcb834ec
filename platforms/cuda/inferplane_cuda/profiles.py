"""What an NVIDIA GPU can do, from its compute capability; and known GPUs, from profiles.json."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from inferplane.spec import DeviceProps, MiB

from .libraries import library_details

# From which compute capability on. Sources: CUDA C++ Programming Guide, "Compute Capabilities";
# cuBLAS documentation, cublasLtMatmul, for fp8 (8.9) and block-scaled fp4 (10.0); triton-lang.org,
# Installation, for Triton (8.0).
_SINCE: tuple[tuple[tuple[int, int], set[str], set[str]], ...] = (
    ((7, 0), {"fp32", "fp16", "int8"}, {"int64_index", "events", "graph_capture"}),
    ((8, 0), {"bf16"}, {"bf16", "triton"}),
    ((8, 9), {"fp8_e4m3", "fp8_e5m2"}, {"fp8_e4m3_gemm", "fp8_e4m3_convert"}),
    ((10, 0), {"fp4_e2m1"}, {"fp4_block_gemm"}),
)

# Same guide, "Technical Specifications per Compute Capability": most KiB a block; 99 in others.
_SHARED = {(8, 0): 163, (8, 7): 163, (9, 0): 227, (10, 0): 227, (10, 3): 227, (11, 0): 227}


def make_props(
    *,
    name: str,
    profile: str,
    memory_bytes: int,
    compute_capability: tuple[int, int],
    cores: int = 0,
    details: dict[str, str],
    triton: bool = True,
    unified: bool = False,
) -> DeviceProps:
    """triton: whether it is installed, for a GPU that is here."""
    dtypes, capabilities = frozenset[str](), frozenset({"unified_memory"} if unified else ())
    for since, more_dtypes, more in _SINCE:
        if compute_capability >= since:
            dtypes, capabilities = dtypes | more_dtypes, capabilities | more
    own = {"compute_capability": "{}.{}".format(*compute_capability), **details}
    fewest = 99 if compute_capability >= (8, 6) else 48
    own["shared_memory_bytes"] = str(_SHARED.get(compute_capability, fewest) * 1024)
    return DeviceProps(
        name=name,
        profile=profile,
        memory_bytes=memory_bytes,
        dtypes=dtypes,
        capabilities=capabilities if triton else capabilities - {"triton"},
        cores=cores,
        details=tuple(sorted(own.items())),
    )


def rows() -> dict[str, dict[str, Any]]:
    """profiles.json: by short name; every number has an entry in "sources"."""
    return dict(json.loads(files(__package__).joinpath("profiles.json").read_text("utf-8")))


def profiles() -> tuple[DeviceProps, ...]:
    """For planning. Optional libraries count as installed if they are installed here."""
    return tuple(
        make_props(
            name=row["name"],
            profile=profile,
            memory_bytes=row["memory_mib"] * MiB,
            compute_capability=parse(row["compute_capability"]),
            cores=row["cores"],
            details={"links": row["links"], **library_details()},
        )
        for profile, row in rows().items()
    )


def parse(text: str) -> tuple[int, int]:
    """ "9.0" -> (9, 0)."""
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


def profile_of(name: str) -> str:
    """The profile that a product's name belongs to, or a short form of the name."""
    for profile, row in rows().items():
        if row["match"] in name.replace("-", " ").split():
            return profile
    words = name.lower().replace("nvidia", "").replace("geforce", "").split()
    return "-".join(words) or "unknown"
