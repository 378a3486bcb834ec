"""What `inferplane tune` measures of linear layers and experts. See `tunables`.

Legend: T tokens, N outputs, K inputs, X experts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from inferplane.spec import ExpertsRequest, LinearRequest, Packed, QuantScheme
from inferplane.spec.torch_types import torch_dtype

from . import defaults
from .defaults import Configuration
from .experts import Experts
from .linear import QuantizedLinear
from .prepared import operand
from .tunables import Tunable

_FEW, _MANY = 16, 4096


def blank(
    scheme: QuantScheme, dtype: str, *shape: int, device: torch.device | None = None
) -> dict[str, torch.Tensor]:
    """Canonical tensors of one weight, [N, K] or [X, N, K], with numbers of no meaning."""
    *lead, rows, columns = shape
    if not scheme.quantized:
        return {"weight": torch.ones(shape, dtype=torch_dtype(dtype), device=device)}
    stored = torch.randint(
        0, 120, (*lead, rows, columns // scheme.packed), dtype=torch.uint8, device=device
    )
    by_group = columns // max(scheme.group, 1)
    by_block = -(-rows // max(scheme.block[0], 1)), -(-columns // max(scheme.block[1], 1))
    sizes: dict[str, tuple[int, ...]] = {
        "tensor": (1,),
        "channel": (rows,),
        "group": (rows, by_group),
        "block": by_block,
    }
    size = (*lead, *sizes[scheme.granularity])
    one = torch.ones(*lead, 1, device=device)
    return {
        "weight": stored.view(torch_dtype(scheme.storage)),
        "scale": torch.ones(size, device=device).to(torch_dtype(scheme.scale_storage)),
        "zero": torch.ones(size, dtype=torch.uint8, device=device),
        "global_scale": one,
        "input_scale": one,
        "order": torch.arange(columns, dtype=torch.int32, device=device),
    }


class Linear(Tunable):
    """decode: a few tokens. prefill: many."""

    def default(self, request: Any, case: str) -> Configuration:
        return defaults.linear(request, case)

    def call(
        self,
        request: LinearRequest,
        case: str,
        configuration: Mapping[str, int],
        device: torch.device,
    ) -> Callable[[], object]:
        r, given = request, {case: configuration}
        kernel = QuantizedLinear(r, **given)
        tensors = blank(r.scheme, r.dtype, kernel.outputs, kernel.inputs, device=device)
        dtype, tokens = torch_dtype(r.dtype), _FEW if case == "decode" else _MANY
        bias = torch.zeros(kernel.outputs, dtype=dtype, device=device) if r.bias else None
        packed = Packed(data=(operand(kernel.recipe, r.scheme, tensors), bias), final_bytes=0)
        x = torch.randn(tokens, kernel.inputs, device=device).to(dtype)
        return lambda: kernel(x, packed)


class MoE(Tunable):
    """As `Linear`, with as many pairs for each expert as the case has at least."""

    def default(self, request: Any, case: str) -> Configuration:
        return defaults.experts(request, case)

    def call(
        self,
        request: ExpertsRequest,
        case: str,
        configuration: Mapping[str, int],
        device: torch.device,
    ) -> Callable[[], object]:
        r, given, dtype = request, {case: configuration}, torch_dtype(request.dtype)
        kernel, data = Experts(r, **given), []
        for asked, rows, inputs in (
            (kernel.gate_up, 2 * r.intermediate, r.hidden),
            (kernel.down, r.hidden, r.intermediate),
        ):
            tensors = blank(r.scheme, r.dtype, r.experts, rows, inputs, device=device)
            bias = torch.zeros(r.experts, rows, dtype=dtype, device=device) if r.bias else None
            data.append((operand(asked, r.scheme, tensors), bias))
        packed = Packed(data=data, final_bytes=0)
        least = 2 * defaults.FEW_PAIRS * r.experts // r.top_k + 1
        tokens = _FEW if case == "decode" else max(_MANY, least)
        x = torch.randn(tokens, r.hidden, device=device).to(dtype)
        chosen = torch.rand(tokens, r.experts, device=device).argsort(-1)[:, : r.top_k].int()
        weights = torch.ones(chosen.shape, device=device)
        return lambda: kernel(x, weights, chosen, packed)


linear, moe_experts = Linear("linear"), MoE("moe.experts")
