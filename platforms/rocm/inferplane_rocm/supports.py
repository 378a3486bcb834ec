"""What this platform's kernels can serve: pure functions of a request."""

from __future__ import annotations

from typing import Any

from inferplane.spec import (
    AttentionRequest,
    CollectiveRequest,
    ExpertsRequest,
    GroupKind,
    LinearRequest,
    NormRequest,
    RoutingRequest,
    Support,
)

from .libraries import unsuitable
from .profiles import architecture

COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast")
_TYPES = ("fp32", "fp16", "bf16", "int32", "int64", "int8", "uint8")
_HALVES = ("bf16", "fp16")
_UNIFIED = "rocm.aiter_unified"
_MOST_EXPERTS = 512
_WIDEST_NORM = 8192  # aiter/ops/rmsnorm.py: its fast kernel ends there


def gemm(request: LinearRequest) -> Support:
    """rocBLAS and hipBLASLt, whichever torch takes."""
    if request.scheme.quantized:
        return Support.no(f"scheme is {request.scheme.name}, it has unquantized weights")
    has = [name for name in ("fp32", "fp16", "bf16") if name in request.device.dtypes]
    if request.dtype in has:
        return Support.yes()
    return Support.no(f"dtype is {request.dtype}, {request.device.name} has {', '.join(has)}")


def _eight_bits(request: LinearRequest, kinds: tuple[str, ...]) -> Support:
    """Row or tensor scales of the weight, inputs scaled at run time. kinds: of the weight."""
    scheme = request.scheme
    if not scheme.quantized:
        return Support.no(f"weights are not quantized, it has {' and '.join(kinds)}")
    if scheme.weight not in kinds or scheme.activation != scheme.weight:
        asked = f"{scheme.weight or request.dtype} by {scheme.activation or request.dtype}"
        return Support.no(f"scheme {scheme.name} is {asked}, it has {' and '.join(kinds)} by same")
    if scheme.granularity not in ("channel", "tensor") or scheme.zero_point or scheme.reordered:
        return Support.no(f"{scheme.name} has zero points, an order or {scheme.granularity}s")
    if not scheme.dynamic or scheme.activation_granularity == "group":
        return Support.no("scales of inputs are stored or by group, it finds them")
    if request.dtype not in _HALVES:
        return Support.no(f"results are {request.dtype}, it has bf16 and fp16")
    if scheme.weight == "fp8_e4m3" and not request.device.detail("fp8"):
        return Support.no(f"{request.device.name} has no 8-bit floating point")
    return Support.yes()


def _local(request: LinearRequest) -> tuple[int, int]:
    """(inputs, outputs) that one rank multiplies."""
    if request.sharding == "row":
        return request.in_features // request.shards, request.out_features
    return request.in_features, request.out_features // request.shards


def hipblaslt_fp8(request: LinearRequest) -> Support:
    support = _eight_bits(request, ("fp8_e4m3",))
    inputs, outputs = _local(request)
    if support.ok and (inputs % 16 or outputs % 16):
        return Support.no(f"{inputs}x{outputs} a rank, it has multiples of 16")
    return support


def aiter(request: Any) -> Support:
    """Whether the library is there, of a version that was read, and has this architecture."""
    gfx = request.device.detail("gfx")
    if not architecture(gfx).aiter:
        return Support.no(f"AITER's kernels are for gfx942 and gfx950, this is {gfx or 'unknown'}")
    installed = request.device.detail("aiter")
    reason = unsuitable(installed) if installed else request.device.detail("aiter_reason")
    return Support.no(reason) if reason else Support.yes()


def aiter_linear(request: LinearRequest) -> Support:
    """By token and by row; the fp8 weight is shuffled in tiles of 16 rows and 32 columns.

    Source of its sizes: csrc/ck_gemm_a8w8_bpreshuffle/gemm_a8w8_bpreshuffle.cu.
    """
    support = _eight_bits(request, ("fp8_e4m3", "int8"))
    if not support.ok:
        return support
    if request.scheme.activation_granularity != "token":
        return Support.no(
            "inputs are scaled whole, it scales by token", instead="rocm.hipblaslt_fp8"
        )
    inputs, outputs = _local(request)
    if inputs < 192 or inputs % 64 or outputs % 16:
        return Support.no(f"{inputs}x{outputs} a rank, it has multiples of 64 from 192 on, by 16")
    parts = len(request.parts)
    if parts > 1 and request.scheme.granularity == "tensor":
        return Support.no(f"{parts} parts with a scale each, it has one scale or one a row")
    return aiter(request)


def aiter_topk_softmax(request: RoutingRequest) -> Support:
    if request.experts > _MOST_EXPERTS:
        return Support.no(f"{request.experts} experts, it has up to {_MOST_EXPERTS}")
    return aiter(request)


def aiter_biased_topk(request: RoutingRequest) -> Support:
    """Source: csrc/kernels/topk_softmax_kernels_group.cu: groups are 1, 2, 4 or 8; with 2 and 4,
    it compares the scores of a part of each group."""
    experts, groups = request.experts, request.groups
    if not request.bias or request.scoring != "sigmoid":
        return Support.no("it has sigmoids with a bias: DeepSeek-V3's routing")
    if groups not in (0, 8) or (groups and experts % 32) or experts > _MOST_EXPERTS:
        return Support.no(f"{experts} experts in {groups} groups, it has 512, in none or 8 by 4")
    if request.top_k > 64:
        return Support.no(f"{request.top_k} a token, it has up to 64")
    return aiter(request)


def aiter_experts(request: ExpertsRequest) -> Support:
    scheme, sizes = request.scheme, (request.hidden, request.intermediate)
    if request.dtype not in _HALVES:
        return Support.no(f"dtype is {request.dtype}, it has bf16 and fp16")
    if any(size % 128 for size in sizes):
        return Support.no(f"sizes are {sizes[0]} and {sizes[1]}, it has multiples of 128")
    if scheme.quantized:
        rows = scheme.granularity, scheme.block, scheme.activation_granularity
        known = (("channel", (0, 0), "token"), ("block", (128, 128), "group"))
        fp8 = scheme.weight == scheme.activation == "fp8_e4m3" and scheme.dynamic
        if not fp8 or rows not in known or scheme.activation_group not in (0, 128):
            return Support.no(f"scheme is {scheme.name}, it has fp8 by row, or by 128x128 and 128")
        if not request.device.detail("fp8"):
            return Support.no(f"{request.device.name} has no 8-bit floating point")
    return aiter(request)


def aiter_norm(request: NormRequest) -> Support:
    if request.dtype not in _HALVES:
        return Support.no(f"dtype is {request.dtype}, it has bf16 and fp16")
    if request.size % 8 or request.size > _WIDEST_NORM:
        return Support.no(f"size is {request.size:,}, it has multiples of 8 up to {_WIDEST_NORM:,}")
    return aiter(request)


def aiter_unified(request: AttentionRequest) -> Support:
    if request.head_dim not in (64, 128, 256):
        return Support.no(f"head size is {request.head_dim}, it has 64, 128 and 256")
    if request.page_size not in (16, 32, 64, 128):
        return Support.no(f"page size is {request.page_size}, it has 16, 32, 64 and 128")
    return _attention(request)


def aiter_prefill(request: AttentionRequest) -> Support:
    if request.head_dim != 128:
        return Support.no(f"head size is {request.head_dim}, it has 128", instead=_UNIFIED)
    if request.page_size != 16:
        return Support.no(f"page size is {request.page_size}, it has 16", instead=_UNIFIED)
    return _attention(request)


def _attention(request: AttentionRequest) -> Support:
    if request.kind not in (GroupKind.FULL, GroupKind.WINDOW) or not request.causal:
        return Support.no(f"it has causal groups, full and window; this is {request.kind.value}")
    if request.dtype not in _HALVES or request.kv_dtype != request.dtype:
        pair = f"{request.dtype} over {request.kv_dtype}"
        return Support.no(f"{pair}, it has bf16 and fp16 over same")
    if request.heads % request.kv_heads:
        return Support.no(f"{request.heads} query heads over {request.kv_heads} kv heads")
    return aiter(request)


def rccl(request: CollectiveRequest) -> Support:
    if request.dtype not in _TYPES:
        return Support.no(f"dtype is {request.dtype}, RCCL has {', '.join(_TYPES)}")
    return Support.yes()


def graph(request: Any) -> Support:
    if "graph_capture" in request.device.capabilities:
        return Support.yes()
    return Support.no(f"{request.device.name} has no graph_capture")
