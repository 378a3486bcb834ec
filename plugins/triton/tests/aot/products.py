"""Representative calls of kernels with quantized weights. See `calls`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from inferplane_triton import experts, linear, route, supports
from inferplane_triton.prepared import operand
from inferplane_triton.product_tunables import blank

from inferplane.spec import (
    UNQUANTIZED,
    DeviceProps,
    ExpertsRequest,
    LinearRequest,
    Packed,
    QuantScheme,
    RoutingRequest,
)
from inferplane.spec.torch_types import torch_dtype


def group(weight: str, size: int, scale: str, **more: Any) -> QuantScheme:
    return QuantScheme.named(weight=weight, granularity="group", group=size, scale=scale, **more)


_FP8 = {"weight": "fp8_e4m3", "activation": "fp8_e4m3"}
_MX = {
    "activation": "fp8_e4m3",
    "activation_granularity": "group",
    "activation_group": 32,
    "activation_scale": "ue8m0",
}
MORE = 0  # tokens, for `varying.py`
SCHEMES = {
    "int4 g128": group("int4", 128, "bf16"),
    "uint4 g128 zero": group("uint4", 128, "fp16", zero_point=True),
    "int4 g32": group("int4", 32, "fp16"),
    "int8 channel": QuantScheme.named(weight="int8"),
    "fp8 channel": QuantScheme.named(weight="fp8_e4m3"),
    "mxfp4": group("fp4_e2m1", 32, "ue8m0"),
    "mxfp8 weight": group("fp8_e4m3", 32, "ue8m0"),
    "nvfp4": group("fp4_e2m1", 16, "fp8_e4m3", global_scale=True),
    "nf4": group("nf4", 64, "fp32"),
    "int8 int8": QuantScheme.named(weight="int8", activation="int8"),
    "int4 g128 int8": group("int4", 128, "bf16", activation="int8"),
    "fp8 fp8 token": QuantScheme.named(**_FP8),
    "fp8 fp8 static": QuantScheme.named(granularity="tensor", dynamic=False, **_FP8),
    "fp8 fp8 block": QuantScheme.named(
        granularity="block", block=(128, 128), activation_granularity="group",
        activation_group=128, **_FP8,
    ),
    "mxfp8": group("fp8_e4m3", 32, "ue8m0", **_MX),
    "mxfp4 fp8": group("fp4_e2m1", 32, "ue8m0", **_MX),
}  # fmt: skip


def linears(props: DeviceProps) -> Iterator[tuple[str, Callable[[], Any]]]:
    for name, scheme in SCHEMES.items():
        request = LinearRequest(
            device=props, in_features=4096, out_features=6144, dtype="bf16", scheme=scheme
        )
        if not supports.linear(request).ok:
            continue
        for part, tokens in (("few", 16 + MORE), ("many", 512 + MORE)):
            yield f"linear {part} {name}", lambda r=request, t=tokens: _linear(r, t)


def _linear(r: LinearRequest, tokens: int) -> None:
    kernel = linear.QuantizedLinear(r)
    made = operand(kernel.recipe, r.scheme, blank(r.scheme, r.dtype, r.out_features, r.in_features))
    x = torch.empty(tokens, r.in_features, dtype=torch_dtype(r.dtype))
    kernel(x, Packed(data=(made, None), final_bytes=0))


ROUTINGS: dict[str, dict[str, Any]] = {
    "softmax 8 of 128": {"experts": 128, "top_k": 8},
    "groups 8 of 256": {
        "experts": 256, "top_k": 8, "scoring": "sigmoid", "bias": True, "groups": 8,
        "top_groups": 4, "scaling": 2.5, "shared": 1,
    },
    "groups 6 of 160": {
        "experts": 160, "top_k": 6, "groups": 8, "top_groups": 3, "group_score": "max",
    },
}  # fmt: skip
EXPERTS = {"plain": UNQUANTIZED} | {
    name: SCHEMES[name]
    for name in (
        "int4 g128",
        "int8 channel",
        "mxfp4",
        "nvfp4",
        "int8 int8",
        "fp8 fp8 token",
        "fp8 fp8 block",
    )
}


def mixtures(props: DeviceProps) -> Iterator[tuple[str, Callable[[], Any]]]:
    for name, fields in ROUTINGS.items():
        routing = RoutingRequest(device=props, dtype="bf16", **fields)
        logits, bias = torch.zeros(16, routing.experts, dtype=torch.bfloat16), torch.zeros(999)
        yield f"moe.route {name}", lambda r=routing, x=logits, b=bias: route.route(r)(x, b)
    for name, scheme in EXPERTS.items():
        request = ExpertsRequest(
            device=props, experts=32, top_k=4, hidden=1024, intermediate=768, dtype="bf16",
            activation="swigluoai", limit=7.0, bias=True, scheme=scheme,
        )  # fmt: skip
        if not supports.experts(request).ok:
            continue
        for part, tokens in (("few", 4 + MORE), ("many", 1024 + MORE)):
            yield f"moe.experts {part} {name}", lambda r=request, t=tokens: _experts(r, t)


def _experts(r: ExpertsRequest, tokens: int) -> None:
    kernel, dtype, data = experts.Experts(r), torch_dtype(r.dtype), []
    for asked, rows, inputs in (
        (kernel.gate_up, 2 * r.intermediate, r.hidden),
        (kernel.down, r.hidden, r.intermediate),
    ):
        tensors = blank(r.scheme, r.dtype, r.experts, rows, inputs)
        data.append((operand(asked, r.scheme, tensors), torch.empty(r.experts, rows, dtype=dtype)))
    chosen = torch.zeros((tokens, r.top_k), dtype=torch.int32)
    x = torch.empty(tokens, r.hidden, dtype=dtype)
    kernel(x, torch.zeros(tokens, r.top_k), chosen, Packed(data=data, final_bytes=0))
