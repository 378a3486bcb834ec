"""Linear over packed panels, in bf16 or of codes: one packing for any number of tokens.

bf16 against oneDNN's packed kernel (2 threads, AVX512-BF16, weights out of the cache): 1.5 times as
fast for 1 to 8 rows, 1.2 times for 16, the same from 64 on. See source/tile.h and source/int8.cpp.
"""

from __future__ import annotations

import torch

from inferplane.spec import LinearRequest, Packed, WeightSource

from .library import library
from .matrix import Matrix, pack


class NativeLinear:
    def __init__(self, request: LinearRequest) -> None:
        self.request = request
        self.half = request.dtype == "bf16"
        self.run = library().ip_multiply

    def prepare(self, source: WeightSource) -> Packed:
        """Panels of 32 outputs on huge pages; the dense weight goes, a tied one stays."""
        scheme = self.request.scheme
        names, parts = ["weight", *["bias"] * self.request.bias], tuple[int, ...]()
        if scheme.quantized:
            names = list(source.names())
            parts = tuple(part.shape[0] for part in source.parts("weight"))
        tensors = {name: source.read(name) for name in names}
        held = sum(tensor.nbytes for tensor in tensors.values())
        matrix = pack(scheme, tensors, parts)
        size = matrix.nbytes
        return Packed(data=matrix, final_bytes=size, peak_bytes=held + size, tensors=matrix.tensors)

    def __call__(self, x_TC: torch.Tensor, packed: Packed) -> torch.Tensor:
        matrix: Matrix = packed.data
        if not x_TC.is_contiguous():
            x_TC = x_TC.contiguous()
        tokens = x_TC.shape[0]
        y_TN = x_TC.new_empty((tokens, matrix.fields.outputs))
        self.run(matrix.address, x_TC.data_ptr(), y_TN.data_ptr(), tokens, self.half)
        return y_TN
