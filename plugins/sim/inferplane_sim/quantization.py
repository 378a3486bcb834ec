"""Linear kernels: unquantized, and the schemes that the device has types for."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from inferplane.spec import LinearRequest, Packed, WeightSource
from inferplane.spec.quantized import as_quantized, dequantize

from .launch import common_board, launch, new, raw


class Linear:
    """Keeps the checkpoint's weight; a tied one is shared."""

    def __init__(self, request: LinearRequest) -> None:
        self.bias = request.bias

    def prepare(self, source: WeightSource) -> Packed:
        tensors = {"weight": source.read("weight")}
        if self.bias:
            tensors["bias"] = source.read("bias")
        owned = [t for name, t in tensors.items() if name != "weight" or not source.tied_to]
        return Packed(
            data=tuple(tensors.values()), final_bytes=sum(t.nbytes for t in owned), tensors=tensors
        )

    def __call__(self, x_TC: torch.Tensor, packed: Packed) -> torch.Tensor:
        name, weights = "sim.linear", packed.data
        board = common_board(name, x_TC, *weights)
        y_TN = new(board, name, (x_TC.shape[0], weights[0].shape[0]), x_TC.dtype)
        to, x, parts = y_TN.raw, raw(x_TC), [raw(weight) for weight in weights]
        launch(board, name, lambda: to.copy_(F.linear(x, *parts)), (x_TC, *weights), (y_TN,))
        return y_TN


class QuantizedLinear:
    """Keeps the canonical tensors, and makes numbers of them in every call."""

    def __init__(self, request: LinearRequest) -> None:
        self.scheme = request.scheme

    def prepare(self, source: WeightSource) -> Packed:
        tensors = {name: source.read(name) for name in source.names()}
        rows = tuple(part.shape[0] for part in source.parts("weight"))
        size = sum(tensor.nbytes for tensor in tensors.values())
        return Packed(data=(tensors, rows), final_bytes=size, tensors=tensors)

    def __call__(self, x_TC: torch.Tensor, packed: Packed) -> torch.Tensor:
        name, (tensors, rows) = "sim.quantized_linear", packed.data
        board = common_board(name, x_TC, *tensors.values())
        y_TN = new(board, name, (x_TC.shape[0], sum(rows)), x_TC.dtype)
        held = {key: raw(tensor) for key, tensor in tensors.items()}
        to, x, scheme = y_TN.raw, raw(x_TC), self.scheme

        def work() -> None:
            bias = held["bias"].float() if "bias" in held else None
            inputs = as_quantized(scheme, x, held.get("input_scale"))
            to.copy_(F.linear(inputs, dequantize(scheme, held, rows), bias))

        launch(board, name, work, (x_TC, *tensors.values()), (y_TN,))
        return y_TN
