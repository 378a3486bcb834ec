"""What an AMD GPU can do, by its architecture name; and known GPUs, from profiles.json.

The one place that knows which fp8 encoding an architecture has: gfx942 has the "fnuz" one (no
negative zero, one NaN, exponents one lower), gfx950 and gfx12 have the OCP one.
Sources: ROCm documentation, "Data types and precision support" and "Accelerator and GPU hardware
specifications"; AITER, aiter/utility/dtypes.py; Triton, Installation (AMD GPUs).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files

from inferplane.spec import DeviceProps, MiB

from .libraries import library_details

_ALWAYS = frozenset({"int64_index", "events", "graph_capture"})


@dataclass(frozen=True)
class Architecture:
    """fp8: dtype name of its 8-bit type, "" for none. aiter: whether AITER has kernels for it.
    shared_kib: local data share that a work-group may have."""

    dtypes: frozenset[str]
    capabilities: frozenset[str]
    fp8: str = ""
    aiter: bool = False
    shared_kib: int = 64


_BF16 = frozenset({"fp32", "fp16", "bf16", "int8"})
_COMPUTE = frozenset({"bf16", "triton"})
_PLAIN = ("gfx90a", "gfx1100", "gfx1101", "gfx1102", "gfx1150", "gfx1151")
_GFX12 = Architecture(
    _BF16 | {"fp8_e4m3", "fp8_e5m2"},
    _COMPUTE | {"fp8_e4m3_gemm", "fp8_e4m3_convert"},
    "fp8_e4m3",
)
ARCHITECTURES = {
    **dict.fromkeys(_PLAIN, Architecture(_BF16, _COMPUTE)),
    **dict.fromkeys(("gfx1200", "gfx1201"), _GFX12),
    "gfx942": Architecture(
        _BF16 | {"fp8_e4m3fnuz"}, _COMPUTE | {"fp8_e4m3fnuz_gemm"}, "fp8_e4m3fnuz", aiter=True
    ),
    "gfx950": Architecture(
        _BF16 | {"fp8_e4m3", "fp8_e5m2", "fp4_e2m1"},
        _COMPUTE | {"fp8_e4m3_gemm", "fp8_e4m3_convert", "fp4_block_gemm"},
        "fp8_e4m3",
        aiter=True,
        shared_kib=160,
    ),
}
_UNKNOWN = Architecture(frozenset({"fp32", "fp16"}), frozenset())


def architecture(gfx: str) -> Architecture:
    """By the name without feature flags. One that is not listed gets what all have."""
    return ARCHITECTURES.get(gfx, _UNKNOWN)


def make_props(
    *,
    name: str,
    profile: str,
    memory_bytes: int,
    gfx: str,
    cores: int,
    details: dict[str, str],
    triton: bool = True,
    unified: bool = False,
) -> DeviceProps:
    """triton: whether it is installed, for a device that is here."""
    known = architecture(gfx)
    capabilities = _ALWAYS | known.capabilities
    if not triton:
        capabilities -= {"triton"}
    if unified:
        capabilities |= {"unified_memory"}
    return DeviceProps(
        name=name,
        profile=profile,
        memory_bytes=memory_bytes,
        dtypes=known.dtypes,
        capabilities=capabilities,
        cores=cores,
        details=(
            ("gfx", gfx),
            ("fp8", known.fp8),
            ("shared_memory_bytes", str(known.shared_kib * 1024)),
            *sorted(details.items()),
        ),
    )


def profiles() -> tuple[DeviceProps, ...]:
    """For planning. Optional libraries count as installed if they are installed here."""
    text = files(__package__).joinpath("profiles.json").read_text(encoding="utf-8")
    return tuple(
        make_props(
            name=row["name"],
            profile=profile,
            memory_bytes=row["memory_mib"] * MiB,
            gfx=row["gfx"],
            cores=row["cores"],
            details={"links": row["links"], **library_details()},
        )
        for profile, row in json.loads(text).items()
    )


def profile_of(name: str, gfx: str) -> str:
    """ "mi300x" for "AMD Instinct MI300X VF"; the architecture for a name without such a word."""
    words = [word.lower() for word in name.split()]
    return next((w for w in words if w.startswith(("mi", "rx")) and len(w) > 2), gfx)
