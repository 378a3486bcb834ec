"""Devices that kernels are compiled for, without one at hand (level V1).

Limits are from the vendors' tables: NVIDIA's CUDA C++ programming guide ("Technical Specifications
per Compute Capability") and AMD's CDNA 3 and CDNA 4 instruction set manuals.
"""

from __future__ import annotations

from dataclasses import dataclass

from inferplane.spec import DeviceProps, GiB

_FLOATS = frozenset({"fp32", "fp16", "bf16", "int8"})
_FP8 = frozenset({"fp8_e4m3_gemm", "fp8_e4m3_convert"})
_FP4 = _FP8 | {"fp4_block_gemm"}


@dataclass(frozen=True)
class Target:
    """back-end, architecture and lanes a warp as Triton names them.

    most_shared: bytes that one program may share. core_shared: of a core. core_warps: warps that
    a core holds. registers: of a core and lane (AMD: of a SIMD, of which a core has four).
    matrix: what its matrix instructions begin with.
    """

    name: str
    backend: str
    arch: int | str
    lanes: int
    most_shared: int
    core_shared: int
    core_warps: int
    registers: int
    cores: int
    matrix: tuple[str, ...]
    words: frozenset[str] = _FP8

    @property
    def props(self) -> DeviceProps:
        return DeviceProps(
            name=self.name,
            profile=self.name,
            memory_bytes=80 * GiB,
            dtypes=_FLOATS,
            capabilities=frozenset({"triton", "int64_index"}) | self.words,
            cores=self.cores,
            details=(("shared_memory_bytes", str(self.most_shared)),),
        )


_K = 1024
_MMA, _MFMA = ("mma.sync",), ("v_mfma",)
_FNUZ = frozenset({"fp8_e4m3fnuz_gemm"})
TARGETS = {
    target.name: target
    for target in (
        Target("sm_80", "cuda", 80, 32, 163 * _K, 164 * _K, 64, 2048, 108, _MMA, frozenset()),
        Target("sm_90", "cuda", 90, 32, 227 * _K, 228 * _K, 64, 2048, 132, ("wgmma", *_MMA)),
        Target(
            "sm_100", "cuda", 100, 32, 227 * _K, 228 * _K, 64, 2048, 148, ("tcgen05", *_MMA), _FP4
        ),
        Target("sm_120", "cuda", 120, 32, 99 * _K, 100 * _K, 48, 2048, 170, _MMA, _FP4),
        Target("gfx942", "hip", "gfx942", 64, 64 * _K, 64 * _K, 32, 512, 304, _MFMA, _FNUZ),
        Target("gfx950", "hip", "gfx950", 64, 160 * _K, 160 * _K, 32, 512, 256, _MFMA, _FP4),
    )
}
