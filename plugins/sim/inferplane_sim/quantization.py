"""Linear kernels. Unquantized so far; a scheme would be another class with its own `prepare`."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from inferplane.spec import LinearRequest, Packed, WeightSource

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
