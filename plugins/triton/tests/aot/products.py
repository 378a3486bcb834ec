"""Representative calls of kernels with quantized weights. See `calls`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from inferplane_triton import linear, supports
from inferplane_triton.prepared import operand

from inferplane.spec import DeviceProps, LinearRequest, Packed, QuantScheme
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
SCHEMES = {
    "int4 g128": group("int4", 128, "bf16"),
    "uint4 g128 zero": group("uint4", 128, "fp16", zero_point=True),
    "int4 g32": group("int4", 32, "fp16"),
    "int8 channel": QuantScheme.named(weight="int8"),
    "fp8 channel": QuantScheme.named(weight="fp8_e4m3"),
    "mxfp4": group("fp4_e2m1", 32, "ue8m0"),
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


def canonical(scheme: QuantScheme, *shape: int, parts: int = 1) -> dict[str, torch.Tensor]:
    """Tensors of one weight [N, K] or [X, N, K]; contents do not matter."""
    *lead, rows, columns = shape
    found = {
        "weight": torch.zeros(
            (*lead, rows, columns // scheme.packed), dtype=torch.uint8
        ).view(torch_dtype(scheme.storage))
    }  # fmt: skip
    size = {
        "tensor": (parts,),
        "channel": (rows,),
        "group": (rows, columns // max(scheme.group, 1)),
        "block": (-(-rows // max(scheme.block[0], 1)), -(-columns // max(scheme.block[1], 1))),
    }[scheme.granularity]
    found["scale"] = torch.zeros((*lead, *size), dtype=torch_dtype(scheme.scale_storage))
    found["zero"] = torch.zeros((*lead, *size), dtype=torch.uint8)
    found["global_scale"] = found["input_scale"] = torch.zeros(*lead, parts)
    return found


def linears(props: DeviceProps) -> Iterator[tuple[str, Callable[[], Any]]]:
    for name, scheme in SCHEMES.items():
        request = LinearRequest(
            device=props, in_features=4096, out_features=6144, dtype="bf16", scheme=scheme
        )
        if not supports.linear(request).ok:
            continue
        for part, tokens in (("few", 16), ("many", 512)):
            yield f"linear {part} {name}", lambda r=request, t=tokens: _linear(r, t)


def _linear(r: LinearRequest, tokens: int) -> None:
    kernel = linear.QuantizedLinear(r)
    made = operand(kernel.recipe, r.scheme, canonical(r.scheme, r.out_features, r.in_features))
    x = torch.empty(tokens, r.in_features, dtype=torch_dtype(r.dtype))
    kernel(x, Packed(data=(made, None), final_bytes=0))
