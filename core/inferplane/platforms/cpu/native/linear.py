"""Linear in bf16: one packing for any number of tokens.

Against oneDNN's packed kernel (2 threads, AVX512-BF16, weights out of the cache): 1.5 times as fast
for 1 to 8 rows, 1.2 times for 16, the same from 64 on. See source/linear.cpp.
"""

from __future__ import annotations

import torch

from inferplane.spec import LinearRequest, Packed, WeightSource

from .library import library

PANEL = 32


class NativeLinear:
    def __init__(self, request: LinearRequest) -> None:
        self.bias = request.bias
        self.run = library().ip_linear

    def prepare(self, source: WeightSource) -> Packed:
        """Panels of 32 outputs on huge pages; the dense weight goes, a tied one stays."""
        weight = source.read("weight").contiguous()
        bias = source.read("bias").contiguous() if self.bias else None
        outputs, inputs = weight.shape
        packed = torch.empty(-(-outputs // PANEL) * PANEL * inputs, dtype=torch.bfloat16)
        place, calls = packed.data_ptr(), library()
        calls.ip_huge_pages(place, packed.nbytes, 0)
        calls.ip_pack(weight.data_ptr(), place, outputs, inputs)
        calls.ip_huge_pages(place, packed.nbytes, 1)
        data = (place, bias.data_ptr() if bias is not None else None, outputs, inputs)
        tensors = {"weight": packed} | ({} if bias is None else {"bias": bias})
        size = sum(tensor.nbytes for tensor in tensors.values())
        return Packed(data=data, final_bytes=size, peak_bytes=2 * weight.nbytes, tensors=tensors)

    def __call__(self, x_TC: torch.Tensor, packed: Packed) -> torch.Tensor:
        weight, bias, outputs, inputs = packed.data
        if not x_TC.is_contiguous():
            x_TC = x_TC.contiguous()
        tokens = x_TC.shape[0]
        y_TN = x_TC.new_empty((tokens, outputs))
        self.run(x_TC.data_ptr(), weight, bias, y_TN.data_ptr(), tokens, outputs, inputs)
        return y_TN
