"""Configurations where no tuned file says better: from sizes and device properties. No torch.

warps, stages: of a program. Other names are explained at their kernels.
"""

from __future__ import annotations

from inferplane.spec import (
    ActivationRequest,
    AttentionRequest,
    DeviceProps,
    ExpertsRequest,
    LinearRequest,
    NormRequest,
    SampleRequest,
    dtype_bytes,
)

from .launch import between, power_of_two
from .schemes import Recipe, recipe

Configuration = dict[str, int]

SHARED_MEMORY = 64 * 1024
"""Bytes that a program may share, on devices that do not say: no accelerator of today has less."""
CORES = 64
FEW_TOKENS = 64
"""Up to these many tokens, products with a weight are bound by reading it."""
FEW_PAIRS = 16
"""The same for the tokens of one expert."""
MOST_SPLITS = 16
_LARGE = 200 * 1024  # of shared memory: matrix units read their operands from there


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
    """A tile of 64 keys, as many under way as fit into half of the shared memory (so that two
    programs share a core), and enough splits for four programs a core."""
    most = 64 if dtype_bytes(request.dtype) <= 2 else 16
    tile, stages = _fit(request, most, shared_memory(request.device) // 2, 0)
    return {"keys": tile, "warps": 4, "stages": stages, "waves": 4}


def prefill(request: AttentionRequest) -> Configuration:
    """The largest tile of queries, and tiles of keys on their way, that fit into the shared memory.
    Tiles of keys are narrow where operands wait in registers, which little shared memory tells.
    Tiles of fp32 are small: matrix units would round, so its products take a register each."""
    size = power_of_two(request.head_dim)
    wide = dtype_bytes(request.dtype) > 2
    queries = 16 if wide else 128 if size <= 128 else 64
    queries = max(queries, power_of_two(request.heads // request.kv_heads))
    resting = int(queries * size * dtype_bytes(request.dtype))
    room = shared_memory(request.device)
    most = 64 if size <= 64 or room >= _LARGE else 32
    tile, stages = _fit(request, 16 if wide else most, room, resting)
    if size > 128 and room < 128 * 1024:
        stages = min(stages, 2)  # what else a program shares fills the rest
    return {
        "queries": queries,
        "keys": tile,
        "warps": 8 if queries >= 128 or queries * size >= 64 * 256 else 4,
        "stages": stages,
    }


def latent(request: AttentionRequest, case: str) -> Configuration:
    """As many heads (of several queries, in a prefill) as fit beside a tile of keys: 32, or 64
    where vectors that need no conversion wait in a large shared memory, not in registers."""
    r, few = request, case == "latent decode"
    each = latent_bytes(r)
    wide, room = dtype_bytes(r.dtype) > 2, shared_memory(r.device)
    most = 64 if room >= _LARGE and r.kv_dtype == r.dtype else 32
    rows = 16 if wide else min(most, max(16, power_of_two(r.heads))) if few else most
    keys = 16 if wide else 32
    while rows > 16 and (rows + 2 * keys) * each > room:
        rows //= 2
    while keys > 16 and (rows + keys) * each > room:
        keys //= 2
    # units that keep sums in a memory of their own read values from two more tiles
    apart = 2 * keys if rows >= 64 and "fp4_block_gemm" in r.device.capabilities else 0
    stages = between(1, (room // each - rows - apart) // keys, 3)
    converted = rows >= 32 and r.kv_dtype != r.dtype and room >= _LARGE
    warps = 8 if rows >= 64 or converted else 4
    found = {"rows": rows, "keys": keys, "warps": warps, "stages": stages}
    return found | ({"waves": 2} if few else {})


def latent_bytes(request: AttentionRequest) -> int:
    """Of one padded vector."""
    r = request
    size = max(16, power_of_two(r.out_dim)) + max(16, power_of_two(r.head_dim - r.out_dim))
    return int(size * max(dtype_bytes(r.dtype), dtype_bytes(r.kv_dtype)))


def linear(request: LinearRequest, case: str) -> Configuration:
    """decode: narrow tiles over long stretches of the weight. prefill: square ones."""
    inputs = request.in_features // (request.shards if request.sharding == "row" else 1)
    asked = recipe(request.scheme, request.dtype, inputs, request.device)
    return products(asked, request.dtype, request.device, case)


def experts(request: ExpertsRequest, case: str) -> Configuration:
    """As `linear`; two tiles of sums, of gate and up, are held at once, which leaves fewer
    registers for tiles on their way."""
    asked = recipe(request.scheme, request.dtype, request.hidden, request.device)
    found = products(asked, request.dtype, request.device, case)
    found.pop("waves", None)
    return found | {"block_n": min(found["block_n"], 64), "stages": min(found["stages"], 3)}


def products(asked: Recipe, dtype: str, device: DeviceProps, case: str) -> Configuration:
    """Tiles of `tiles.products` whose stages fit into the shared memory. Those of fp32 are small,
    since its products take registers."""
    wide, few = dtype_bytes(asked.type) > 2, case == "decode"
    rows = FEW_TOKENS if few else 32 if wide else 128
    columns = 32 if wide else 64 if few else 128
    block_k = 32 if wide else 128 if few or dtype_bytes(asked.type) == 1 else 64
    if asked.block_scaled:
        widened = asked.packed == 2 or asked.input == "as_is"  # in registers, where types differ
        block_k = 64 if widened and not few else 128
    block_k = min(block_k, asked.most_k or block_k)
    given = dtype_bytes(dtype if asked.input in ("as_is", "static") else asked.type)
    stored = dtype_bytes(asked.type) if asked.kind in ("float", "fp8") else 1 / asked.packed
    decoded = 0 if stored == dtype_bytes(asked.type) else dtype_bytes(asked.type)
    room = shared_memory(device) - int(columns * block_k * decoded)
    stages = between(1, int(room / (block_k * (rows * given + columns * stored))), 4)
    found = {"block_n": columns, "block_k": max(32, block_k), "warps": 4 if few or wide else 8}
    more = {"waves": 2} if few else {"block_m": rows, "abreast": 8}
    return found | {"stages": stages} | more


def _fit(request: AttentionRequest, tile: int, room: int, resting: int) -> tuple[int, int]:
    """(keys a tile, stages): `resting` bytes, and keys and values of all stages but the one that is
    multiplied, fit into `room`. From three stages on, copies overlap with products."""
    size = power_of_two(request.head_dim)
    bytes_each = int(2 * size * max(dtype_bytes(request.kv_dtype), dtype_bytes(request.dtype)))
    while tile > 16 and resting + 2 * tile * bytes_each > room:
        tile //= 2
    stages = between(1, 1 + (room - resting) // (tile * bytes_each), 3)
    return tile, stages
