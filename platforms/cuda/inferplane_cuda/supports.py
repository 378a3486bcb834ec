"""What this platform's kernels can serve: pure functions of a request."""

from __future__ import annotations

from typing import Any

from inferplane.spec import (
    AttentionRequest,
    CollectiveRequest,
    GroupKind,
    LinearRequest,
    Support,
)

from .libraries import unsuitable
from .profiles import parse

COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast")
_ONE_SHOT_BYTES = 512 << 10  # every rank reads every other's whole message
_FP8_MULTIPLE = 16  # cublasLtMatmul, "8-bit Floating Point Data Types Usage"


def floats(request: Any) -> Support:
    has = sorted(d for d in request.device.dtypes if d in ("fp32", "fp16", "bf16"))
    if request.dtype not in has:
        return Support.no(f"dtype is {request.dtype}, {request.device.name} has {', '.join(has)}")
    return Support.yes()


def linear(request: LinearRequest) -> Support:
    if request.scheme.quantized:
        return Support.no(f"scheme is {request.scheme.name}, it has unquantized weights")
    return floats(request)


def scaled_linear(request: LinearRequest) -> Support:
    scheme, device = request.scheme, request.device
    if not scheme.quantized:
        return Support.no("weights are not quantized, it has fp8_e4m3", instead="cuda.cublas")
    if "fp8_e4m3_gemm" not in device.capabilities:
        return Support.no(f"{device.name} has no fp8_e4m3_gemm: that starts with Ada and Hopper")
    if scheme.weight != "fp8_e4m3" or scheme.activation != "fp8_e4m3" or scheme.zero_point:
        pair = f"{scheme.weight} weights and {scheme.activation or request.dtype} inputs"
        return Support.no(f"scheme {scheme.name} has {pair}, it has fp8_e4m3 for both")
    if scheme.granularity not in ("tensor", "channel"):
        return Support.no(f"scales are by {scheme.granularity}, it has tensor and channel")
    if scheme.activation_granularity not in ("tensor", "token") or not scheme.dynamic:
        return Support.no("scales of inputs are stored or by group, it finds them")
    if scheme.scale not in ("fp32", "bf16", "fp16") or scheme.reordered:
        return Support.no(f"scales are {scheme.scale} or inputs permuted, it has floats in order")
    sizes = sharded(request)
    if any(size % _FP8_MULTIPLE for size in sizes):
        return Support.no(f"{sizes[0]}x{sizes[1]} a rank, both must be multiples of 16")
    if request.dtype not in ("bf16", "fp16"):
        return Support.no(f"results are {request.dtype}, it has bf16 and fp16")
    return Support.yes()


def sharded(request: LinearRequest) -> tuple[int, int]:
    """(inputs, outputs) of one rank."""
    by_row = request.sharding == "row"
    inputs = request.in_features // (request.shards if by_row else 1)
    return inputs, request.out_features // (1 if by_row else request.shards)


def _paged(request: AttentionRequest, library: str) -> Support:
    """What the optional libraries have in common."""
    reason = unsuitable(library, request.device.detail(library))
    if reason:
        return Support.no(reason)
    if request.kind not in (GroupKind.FULL, GroupKind.WINDOW):
        return Support.no(f"KV group kind is {request.kind.value}, it has full and window")
    if request.dtype not in ("bf16", "fp16") or request.dtype not in request.device.dtypes:
        return Support.no(f"dtype is {request.dtype}, it has bf16 and fp16")
    if request.kv_dtype != request.dtype:
        return Support.no(f"KV dtype is {request.kv_dtype}, it must be {request.dtype}")
    if request.heads % request.kv_heads:
        return Support.no(f"{request.heads} heads do not share {request.kv_heads} kv heads evenly")
    if capability(request) < (8, 0):
        return Support.no(f"{request.device.name} is older than compute capability 8.0")
    return Support.yes()


def capability(request: Any) -> tuple[int, int]:
    return parse(request.device.detail("compute_capability", "0.0"))


def flashinfer(request: AttentionRequest) -> Support:
    if request.head_dim not in (64, 128, 256):
        return Support.no(f"head size is {request.head_dim}, it has 64, 128 and 256")
    return _paged(request, "flashinfer")


def flash_attention_2(request: AttentionRequest) -> Support:
    support = _flash(request, "flash_attn")
    if support.ok and request.page_size % 256:
        page = request.page_size
        return Support.no(f"page size is {page}, it has multiples of 256: --page-size 256")
    return support


def flash_attention_3(request: AttentionRequest) -> Support:
    if capability(request) != (9, 0):
        found = request.device.detail("compute_capability", "?")
        return Support.no(f"compute capability is {found}, it is for 9.0")
    return _flash(request, "flash_attn_3")


def _flash(request: AttentionRequest, library: str) -> Support:
    size = request.head_dim
    if size % 8 or size > 256:
        return Support.no(f"head size is {size}, it has multiples of 8 up to 256")
    return _paged(request, library)


def nccl(request: CollectiveRequest) -> Support:
    has = ["fp32", "fp16", "int32", "int64", "int8", "uint8"]
    has += [name for name in ("bf16",) if name in request.device.dtypes]
    if request.dtype not in has:
        return Support.no(f"dtype is {request.dtype}, NCCL has {', '.join(has)}")
    return Support.yes()


def one_shot(request: CollectiveRequest) -> Support:
    links = request.device.detail("links")
    if links not in ("nvlink", "nvswitch"):
        return Support.no(
            f"links are {links or 'unknown'}, it needs NVLink between all", instead="cuda.nccl"
        )
    if not 2 <= request.ranks <= 8:
        return Support.no(f"{request.ranks} ranks, it has 2 to 8", instead="cuda.nccl")
    if request.last_bytes > _ONE_SHOT_BYTES:
        return Support.no(
            f"messages have up to {request.last_bytes:,} bytes, it has up to {_ONE_SHOT_BYTES:,}",
            instead="cuda.nccl",
        )
    if request.dtype not in ("fp32", "bf16"):
        return Support.no(f"dtype is {request.dtype}, it has fp32 and bf16", instead="cuda.nccl")
    return floats(request)


def graph(request: Any) -> Support:
    if "graph_capture" not in request.device.capabilities:
        return Support.no(f"{request.device.name} has no graph_capture")
    return Support.yes()
