"""8-bit linear kernels: hipBLASLt through torch, and AITER's, with shuffled weights.

Sources, of ROCm/aiter at e404860: aiter/ops/gemm_op_a8w8.py (`gemm_a8w8_bpreshuffle` asserts that
there is no bias), aiter/ops/quant.py, whose inputs are contiguous, and aiter/ops/shuffle.py.

Legend: T tokens, C input features, N output features.
"""

from __future__ import annotations

from typing import Any

import torch

from inferplane.spec import LinearRequest, Packed, TorchScaledLinear, WeightSource
from inferplane.spec.quantized import to_fnuz
from inferplane.spec.torch_types import torch_dtype

from .libraries import load_aiter


class FnuzLinear(TorchScaledLinear):
    """For GPUs whose fp8 is the fnuz one."""

    input_type = "fp8_e4m3fnuz"

    def convert(
        self, weight_NC: torch.Tensor, scale: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return to_fnuz(weight_NC, scale)


def scaled_linear(request: LinearRequest) -> TorchScaledLinear:
    """Through torch, in the encoding of the device."""
    fnuz = request.device.detail("fp8") == "fp8_e4m3fnuz"
    return FnuzLinear(request) if fnuz else TorchScaledLinear(request)


class AiterLinear:
    """Weights scaled by row, inputs by token; fp8 with the weight shuffled once, or int8."""

    def __init__(self, request: LinearRequest) -> None:
        self.library: Any = load_aiter()
        self.bias, self.dtype = request.bias, torch_dtype(request.dtype)
        self.fp8 = request.scheme.weight == "fp8_e4m3"
        self.kind = torch_dtype(request.device.detail("fp8") if self.fp8 else "int8")

    def prepare(self, source: WeightSource) -> Packed:
        weight = source.read("weight")
        scale = source.read("scale").float().reshape(-1)
        if scale.numel() not in (1, len(weight)):
            raise ValueError(f"{source.path}: {scale.numel()} scales for {len(weight)} rows")
        if self.fp8:
            if self.kind == torch.float8_e4m3fnuz:
                weight, scale = to_fnuz(weight, scale)
            from aiter.ops.shuffle import shuffle_weight

            weight = shuffle_weight(weight, layout=(16, 16))
        scale_N1 = scale.expand(len(weight))[:, None].contiguous()
        bias = source.read("bias") if self.bias else None
        held = [t for t in (weight, scale_N1, bias) if t is not None]
        return Packed(
            data=(weight, scale_N1, bias),
            final_bytes=sum(t.nbytes for t in held),
            peak_bytes=weight.nbytes,
        )

    def __call__(self, x_TC: torch.Tensor, packed: Packed) -> torch.Tensor:
        weight_NC, scale_N1, bias = packed.data
        x, scale_T1 = self.library.per_token_quant_hip(x_TC.contiguous(), quant_dtype=self.kind)
        multiply = self.library.gemm_a8w8_bpreshuffle if self.fp8 else self.library.gemm_a8w8
        y_TN: torch.Tensor = multiply(x, weight_NC, scale_T1, scale_N1, dtype=self.dtype)
        return y_TN if bias is None else y_TN.add_(bias)
