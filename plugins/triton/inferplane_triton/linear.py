"""op "linear" with quantized weights: every scheme of `schemes`, as one tiled product.

Legend: T tokens, M rows of a tile, N outputs, K inputs, S splits of the inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl

from inferplane.spec import LinearRequest, Packed, WeightSource
from inferplane.spec.torch_types import torch_dtype

from . import defaults
from .launch import between, launch, power_of_two
from .prepared import Operand, operand
from .quantize import quantize, whole_scale
from .recipes import constants
from .schemes import recipe
from .supports import sharded
from .tiles import STATIC, TOKEN, block_scaled_products, products, tile_of
from .tuned_files import configured


@triton.jit(do_not_specialize=["tokens"])
def linear_kernel(
    x, x_scale, w, scale, zero, last, table, bias, y, tokens, x_t, x_groups,
    N: tl.constexpr, K: tl.constexpr, PACKED: tl.constexpr, KIND: tl.constexpr,
    OFFSET: tl.constexpr, ZERO: tl.constexpr, W_GROUP: tl.constexpr, W_ROWS: tl.constexpr,
    W_STEP: tl.constexpr, W_EXPONENTS: tl.constexpr, IN_WEIGHT: tl.constexpr, INPUT: tl.constexpr,
    X_GROUP: tl.constexpr, X_EXPONENTS: tl.constexpr, TYPE: tl.constexpr, HIGH: tl.constexpr,
    BLOCK_SCALED: tl.constexpr, X_FORMAT: tl.constexpr, LAST: tl.constexpr, BIAS: tl.constexpr,
    SPLITS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    ABREAST: tl.constexpr,
):  # fmt: skip
    """A program: a tile of outputs, a split of the inputs; with several, y is fp32 [S, T, N]."""
    columns: tl.constexpr = (N + BLOCK_N - 1) // BLOCK_N
    row, column = tile_of(tl.program_id(0), tl.cdiv(tokens, BLOCK_M), columns, ABREAST)
    split = tl.program_id(1)
    STEPS: tl.constexpr = (K + BLOCK_K - 1) // BLOCK_K
    EACH: tl.constexpr = (STEPS + SPLITS - 1) // SPLITS * BLOCK_K
    begin = split * EACH
    end = tl.minimum(begin + EACH, K)
    m = row * BLOCK_M + tl.arange(0, BLOCK_M)
    n = column * BLOCK_N + tl.arange(0, BLOCK_N)
    m_valid, n_valid = m < tokens, n < N
    x_at, x_scale_at = m.to(tl.int64) * x_t, m.to(tl.int64) * x_groups
    w_at = n.to(tl.int64) * (K // PACKED)
    scale_at = n
    if W_ROWS > 1:
        scale_at = n // W_ROWS
    if BLOCK_SCALED:
        acc = block_scaled_products(
            x, x_at, m_valid, x_scale, x_scale_at, w, w_at, n_valid, scale, scale_at, begin, end,
            K, KIND, W_STEP, INPUT, X_FORMAT, BLOCK_M, BLOCK_N, BLOCK_K,
        )  # fmt: skip
    else:
        acc = products(
            x, x_at, m_valid, x_scale, x_scale_at, w, w_at, n_valid, scale, zero, scale_at, table,
            begin, end, K, KIND, OFFSET, ZERO, W_GROUP, W_STEP, W_EXPONENTS, IN_WEIGHT, INPUT,
            X_GROUP, X_EXPONENTS, TYPE, HIGH, BLOCK_M, BLOCK_N, BLOCK_K,
        )  # fmt: skip
    if LAST:
        acc *= tl.load(last + n, mask=n_valid, other=0.0)[None, :]
    if INPUT == TOKEN:
        acc *= tl.load(x_scale + m, mask=m_valid, other=0.0)[:, None]
    if INPUT == STATIC:
        acc *= tl.load(x_scale)
    if BIAS and SPLITS == 1:
        acc += tl.load(bias + n, mask=n_valid, other=0.0).to(tl.float32)[None, :]
    place = y + (split.to(tl.int64) * tokens + m[:, None]) * N + n[None, :]
    tl.store(place, acc.to(y.dtype.element_ty), mask=m_valid[:, None] & n_valid[None, :])


@triton.jit(do_not_specialize=["count"])
def sum_kernel(
    parts, bias, y, count, N: tl.constexpr, SPLITS: tl.constexpr, BIAS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """y [T, N]: the sum of parts [S, T, N], always in the same order, and the bias. count: T N."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < count
    total = tl.zeros((BLOCK,), tl.float32)
    for _ in range(SPLITS):
        total += tl.load(parts + at, mask=mask, other=0.0)
        parts += count
    if BIAS:
        total += tl.load(bias + at % N, mask=mask, other=0.0).to(tl.float32)
    tl.store(y + at, total.to(y.dtype.element_ty), mask=mask)


class QuantizedLinear:
    """Few tokens are split over the inputs as well, so that every core has work; the parts are
    summed in a second launch. The splits follow from the number of tokens alone."""

    def __init__(
        self,
        request: LinearRequest,
        decode: Mapping[str, int] | None = None,
        prefill: Mapping[str, int] | None = None,
    ) -> None:
        self.request, r = request, request
        self.inputs, self.outputs = sharded(request)
        self.recipe = recipe(r.scheme, r.dtype, self.inputs, r.device)
        self.configurations = {
            case: given or configured("linear", r, case, defaults.linear(r, case))
            for case, given in (("decode", decode), ("prefill", prefill))
        }

    def prepare(self, source: WeightSource) -> Packed:
        scheme = self.request.scheme
        tensors = {name: source.read(name) for name in source.names()}
        parts = tuple(part.shape[0] for part in source.parts("weight"))
        made = operand(self.recipe, scheme, tensors, parts)
        kept = made.tensors()
        bias = tensors["bias"] if self.request.bias else None
        if bias is not None:
            kept["bias"] = bias
        return Packed(
            data=(made, bias),
            final_bytes=sum(tensor.nbytes for tensor in kept.values()),
            peak_bytes=sum(tensor.nbytes for tensor in kept.values()),
            tensors=kept,
        )

    def __call__(self, x_TC: torch.Tensor, packed: Packed) -> torch.Tensor:
        made, bias = packed.data
        if made.order is not None:
            x_TC = x_TC.index_select(1, made.order)
        x, x_scale = x_TC, made.input_scale
        if self.recipe.input == "static" and x_scale is None:
            x_scale = whole_scale(x_TC, self.recipe)
        elif self.recipe.input in ("token", "group"):
            x, x_scale = quantize(x_TC, self.recipe)
        return self._multiply(x, x_scale, made, bias)

    def _multiply(
        self, x: torch.Tensor, x_scale: torch.Tensor | None, made: Operand, bias: Any
    ) -> torch.Tensor:
        tokens = x.shape[0]
        case = "decode" if tokens <= defaults.FEW_TOKENS else "prefill"
        config = self.configurations[case]
        block_m = config.get("block_m") or between(16, power_of_two(tokens), defaults.FEW_TOKENS)
        block_k = self.recipe.step(config["block_k"], self.inputs)
        tiles = -(-tokens // block_m) * -(-self.outputs // config["block_n"])
        splits = self._splits(tiles, block_k, config.get("waves", 0))
        y = torch.empty(
            (tokens, self.outputs), dtype=torch_dtype(self.request.dtype), device=x.device
        )
        parts = y
        if splits > 1:
            parts = torch.empty((splits, *y.shape), dtype=torch.float32, device=x.device)
        launch(
            linear_kernel,
            (tiles, splits),
            *(x, x_scale, made.weight, made.scale, made.zero, made.last, made.table, bias, parts),
            *(tokens, x.stride(0), 0 if x_scale is None else x_scale.shape[-1]),
            **constants(self.recipe, made),
            N=self.outputs,
            K=self.inputs,
            BIAS=bias is not None,
            SPLITS=splits,
            BLOCK_M=block_m,
            BLOCK_N=config["block_n"],
            BLOCK_K=block_k,
            ABREAST=config.get("abreast", 1),
            options={"num_warps": config["warps"], "num_stages": config["stages"]},
        )
        if splits > 1:
            block = 1024
            launch(
                sum_kernel,
                (triton.cdiv(y.numel(), block),),
                *(parts, bias, y, y.numel()),
                N=self.outputs,
                SPLITS=splits,
                BIAS=bias is not None,
                BLOCK=block,
                options={"num_warps": 4},
            )
        return y

    def _splits(self, tiles: int, block_k: int, waves: int) -> int:
        """As many as give every core `waves` programs, each of four steps or more."""
        if not waves:
            return 1
        wanted = (self.request.device.cores or defaults.CORES) * waves // max(1, tiles)
        return between(1, min(wanted, -(-self.inputs // block_k) // 4), defaults.MOST_SPLITS)
