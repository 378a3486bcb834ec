"""Rotary position embedding (Su et al. 2021). The table holds any scaling; see `layers.rotary`."""

from __future__ import annotations

import torch

from inferplane.spec import RotaryRequest


class Rotary:
    """state is (cos, sin), each [T, 1, R/2] in the dtype of the queries."""

    def __init__(self, request: RotaryRequest) -> None:
        from inferplane.spec.torch_types import torch_dtype

        self.dtype = torch_dtype(request.dtype)
        self.rotary_dim = request.rotary_dim
        self.interleaved = request.style == "interleaved"
        if request.axes != 1:
            raise ValueError("several position axes are for later models; one axis is supported")

    def step(self, table: torch.Tensor, positions_T: torch.Tensor) -> tuple[torch.Tensor, ...]:
        rows = table.index_select(0, positions_T).to(self.dtype).unsqueeze(1)
        return rows.chunk(2, dim=-1)

    def __call__(
        self, q_THD: torch.Tensor, k_TKD: torch.Tensor, state: tuple[torch.Tensor, ...]
    ) -> None:
        for x in (q_THD, k_TKD):
            self._turn(x[..., : self.rotary_dim], *state)

    def _turn(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> None:
        if self.interleaved:
            first, second = x[..., 0::2], x[..., 1::2]
        else:
            first, second = x.chunk(2, dim=-1)
        turned = first * cos - second * sin, second * cos + first * sin
        first.copy_(turned[0])
        second.copy_(turned[1])
