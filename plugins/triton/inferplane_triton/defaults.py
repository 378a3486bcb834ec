"""Configurations where no tuned file says better: from sizes and device properties. No torch.

warps, stages: of a program. Other names are explained at their kernels.
"""

from __future__ import annotations

from inferplane.spec import (
    ActivationRequest,
    AttentionRequest,
    DeviceProps,
    NormRequest,
    SampleRequest,
    dtype_bytes,
)

from .launch import between, power_of_two

Configuration = dict[str, int]

SHARED_MEMORY = 64 * 1024
"""Bytes that a program may share, on devices that do not say: no accelerator of today has less."""
CORES = 64


def shared_memory(props: DeviceProps) -> int:
    """Bytes of memory that one program may share, from the detail `shared_memory_bytes`."""
    return int(props.detail("shared_memory_bytes", str(SHARED_MEMORY)))


def norm(request: NormRequest) -> Configuration:
    block = power_of_two(request.size)
    rows = between(1, 1024 // block, 8)
    return {"rows": rows, "warps": between(1, rows * block // 512, 16)}


def activation(request: ActivationRequest) -> Configuration:
    block = between(64, power_of_two(request.size), 1024)
    return {"block": block, "warps": between(1, block // 256, 4)}


def sample(request: SampleRequest) -> Configuration:
    block = between(64, power_of_two(request.vocab), 4096)
    return {"block": block, "warps": between(1, block // 256, 16)}


def decode(request: AttentionRequest) -> Configuration:
    """A tile of 64 keys, as many stages as fit into half of the shared memory (so that two
    programs share a core), and enough splits for four programs a core."""
    most = 64 if dtype_bytes(request.dtype) <= 2 else 16
    tile, stages = _fit(request, most, shared_memory(request.device) // 2, 0)
    return {"keys": tile, "warps": 4, "stages": stages, "waves": 4}


def prefill(request: AttentionRequest) -> Configuration:
    """The largest tile of queries and keys whose stages fit into the shared memory. Tiles of fp32
    are small: matrix units would round, so its products take a register each."""
    size = power_of_two(request.head_dim)
    wide = dtype_bytes(request.dtype) > 2
    queries = 16 if wide else 128 if size <= 128 else 64
    queries = max(queries, power_of_two(request.heads // request.kv_heads))
    resting = int(queries * size * dtype_bytes(request.dtype))
    tile, stages = _fit(request, 16 if wide else 64, shared_memory(request.device), resting)
    return {
        "queries": queries,
        "keys": tile,
        "warps": 8 if queries >= 128 or queries * size >= 64 * 256 else 4,
        "stages": stages,
    }


def _fit(request: AttentionRequest, tile: int, room: int, resting: int) -> tuple[int, int]:
    """(keys a tile, stages): their keys and values, and `resting` bytes, fit into `room`."""
    size = power_of_two(request.head_dim)
    bytes_each = int(2 * size * max(dtype_bytes(request.kv_dtype), dtype_bytes(request.dtype)))
    while tile > 16 and resting + 2 * tile * bytes_each > room:
        tile //= 2
    stages = between(1, (room - resting) // (tile * bytes_each), 3)
    return tile, stages
