"""Routing and grouped experts, one call each. See source/route.cpp and source/experts.cpp.

Legend: T tokens, X experts, E experts a token, C hidden, I intermediate.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import torch

from inferplane.spec import ExpertsRequest, Packed, RoutingRequest, WeightSource

from .library import library
from .matrix import pack

_KINDS = ("silu", "gelu", "gelu_tanh", "swigluoai")


class _Routing(ctypes.Structure):
    """`Routing` of source/route.cpp."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("experts", "top", "groups", "top_groups", "shared")),
        *((name, ctypes.c_int64) for name in ("sigmoid", "sum_of_two", "renormalize")),
        ("scaling", ctypes.c_float),
    ]


def route(request: RoutingRequest) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    asked = _Routing(
        experts=request.experts,
        top=request.top_k,
        groups=request.groups,
        top_groups=request.top_groups,
        shared=request.shared,
        sigmoid=request.scoring == "sigmoid",
        sum_of_two=request.group_score == "top2",
        renormalize=request.renormalize,
        scaling=request.scaling,
    )
    call, half, chosen = library().ip_route, request.dtype == "bf16", request.top_k + request.shared

    def run(
        logits_TX: torch.Tensor, bias_X: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits_TX, tokens = logits_TX.contiguous(), logits_TX.shape[0]
        weights_TE = torch.empty((tokens, chosen), dtype=torch.float32)
        experts_TE = torch.empty((tokens, chosen), dtype=torch.int32)
        call(
            ctypes.byref(asked),
            logits_TX.data_ptr(),
            None if bias_X is None else bias_X.data_ptr(),
            weights_TE.data_ptr(),
            experts_TE.data_ptr(),
            tokens,
            half,
        )
        return weights_TE, experts_TE

    return run


class NativeExperts:
    """All experts' panels, one projection after the other; what lies between them is fp32."""

    def __init__(self, request: ExpertsRequest) -> None:
        self.request = request
        self.half = request.dtype == "bf16"
        self.kind = _KINDS.index(request.activation)
        self.run = library().ip_experts

    def prepare(self, source: WeightSource) -> Packed:
        """Each projection is packed and its dense form let go before the next is read."""
        matrices, peak, size = [], 0, 0
        for name in ("gate_up", "down"):
            own = [n for n in source.names() if n.startswith(f"{name}.")]
            tensors = {n.removeprefix(f"{name}."): source.read(n) for n in own}
            matrices.append(pack(self.request.scheme, tensors))
            size += matrices[-1].nbytes
            peak = max(peak, size + sum(tensor.nbytes for tensor in tensors.values()))
            del tensors
        held = {
            f"{name}.{key}": tensor
            for name, matrix in zip(("gate_up", "down"), matrices, strict=True)
            for key, tensor in matrix.tensors.items()
        }
        return Packed(data=tuple(matrices), final_bytes=size, peak_bytes=peak, tensors=held)

    def __call__(
        self,
        x_TC: torch.Tensor,
        weights_TE: torch.Tensor,
        experts_TE: torch.Tensor,
        packed: Packed,
    ) -> torch.Tensor:
        gate_up, down = packed.data
        x_TC, weights_TE = x_TC.contiguous(), weights_TE.contiguous()
        experts_TE, (tokens, chosen) = experts_TE.contiguous(), experts_TE.shape
        y_TC = torch.empty_like(x_TC)
        self.run(
            gate_up.address,
            down.address,
            x_TC.data_ptr(),
            weights_TE.data_ptr(),
            experts_TE.data_ptr(),
            y_TC.data_ptr(),
            tokens,
            chosen,
            self.request.experts,
            self.kind,
            self.request.limit,
            self.half,
        )
        return y_TC
