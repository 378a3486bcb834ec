"""op "moe.experts": pairs of a token and an expert are sorted once, then two grouped products and
a weighted sum.

Legend: T tokens, E experts a token, X experts, C hidden, I intermediate, M rows of a block; N
outputs and K inputs of one product.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl

from inferplane.spec import ExpertsRequest, Packed, WeightSource

from . import defaults
from .activation import KINDS, activated
from .align import Blocks, align
from .launch import between, launch, power_of_two
from .prepared import Operand, operand
from .quantize import quantize
from .recipes import constants
from .schemes import Recipe, recipe
from .tiles import STATIC, TOKEN, block_scaled_products, products, tile_of
from .tuned_files import configured


@triton.jit
def expert_products(
    x, x_at, valid, x_scale, row, x_groups, w, n, n_valid, scale, zero, last, table, bias,
    N: tl.constexpr, K: tl.constexpr, PACKED: tl.constexpr, KIND: tl.constexpr,
    OFFSET: tl.constexpr, ZERO: tl.constexpr, W_GROUP: tl.constexpr, W_ROWS: tl.constexpr,
    W_STEP: tl.constexpr, W_EXPONENTS: tl.constexpr, IN_WEIGHT: tl.constexpr, INPUT: tl.constexpr,
    X_GROUP: tl.constexpr, X_EXPONENTS: tl.constexpr, TYPE: tl.constexpr, HIGH: tl.constexpr,
    BLOCK_SCALED: tl.constexpr, X_FORMAT: tl.constexpr, LAST: tl.constexpr, BIAS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """[M, N] fp32: rows of x times outputs n of one expert, whose tensors these are. row [M]: of
    x's scales."""
    w_at = n.to(tl.int64) * (K // PACKED)
    scale_at = n
    if W_ROWS > 1:
        scale_at = n // W_ROWS
    x_scale_at = row * x_groups
    if BLOCK_SCALED:
        acc = block_scaled_products(
            x, x_at, valid, x_scale, x_scale_at, w, w_at, n_valid, scale, scale_at, 0, K,
            K, KIND, W_STEP, INPUT, X_FORMAT, BLOCK_M, BLOCK_N, BLOCK_K,
        )  # fmt: skip
    else:
        acc = products(
            x, x_at, valid, x_scale, x_scale_at, w, w_at, n_valid, scale, zero, scale_at, table,
            0, K, K, KIND, OFFSET, ZERO, W_GROUP, W_STEP, W_EXPONENTS, IN_WEIGHT, INPUT, X_GROUP,
            X_EXPONENTS, TYPE, HIGH, BLOCK_M, BLOCK_N, BLOCK_K,
        )  # fmt: skip
    if LAST:
        acc *= tl.load(last + n, mask=n_valid, other=0.0)[None, :]
    if INPUT == TOKEN:
        acc *= tl.load(x_scale + row, mask=valid, other=0.0)[:, None]
    if INPUT == STATIC:
        acc *= tl.load(x_scale)
    if BIAS:
        acc += tl.load(bias + n, mask=n_valid, other=0.0).to(tl.float32)[None, :]
    return acc


@triton.jit(do_not_specialize=["blocks"])
def experts_kernel(
    x, x_scale, w, scale, zero, last, table, bias, y, order, block_experts, block_rows,
    blocks, each, x_t, x_groups, w_x, scale_x, limit,
    OUT: tl.constexpr, N: tl.constexpr, K: tl.constexpr, GATED: tl.constexpr,
    ACTIVATION: tl.constexpr, LIMIT: tl.constexpr,
    PACKED: tl.constexpr, KIND: tl.constexpr, OFFSET: tl.constexpr, ZERO: tl.constexpr,
    W_GROUP: tl.constexpr, W_ROWS: tl.constexpr, W_STEP: tl.constexpr, W_EXPONENTS: tl.constexpr,
    IN_WEIGHT: tl.constexpr, INPUT: tl.constexpr, X_GROUP: tl.constexpr, X_EXPONENTS: tl.constexpr,
    TYPE: tl.constexpr, HIGH: tl.constexpr, BLOCK_SCALED: tl.constexpr, X_FORMAT: tl.constexpr,
    LAST: tl.constexpr, BIAS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr, ABREAST: tl.constexpr,
):  # fmt: skip
    """A program: BLOCK_N of OUT columns of one block, which is of one expert. y [T E, OUT].

    GATED: x is [T, K], the weight's N rows are OUT of gate and OUT of up. Else x is [T E, K], and N
    is OUT. each: E. w_x, scale_x: from one expert's weight, or scales, to the next one's.
    """
    columns: tl.constexpr = (OUT + BLOCK_N - 1) // BLOCK_N
    block, column = tile_of(tl.program_id(0), blocks, columns, ABREAST)
    expert = tl.load(block_experts + block).to(tl.int64)
    if expert < 0:
        return
    m = tl.arange(0, BLOCK_M)
    valid = m < tl.load(block_rows + block)
    pair = tl.load(order + block * BLOCK_M + m, mask=valid, other=0).to(tl.int64)
    n = column * BLOCK_N + tl.arange(0, BLOCK_N)
    n_valid = n < OUT
    row = pair
    if GATED:
        row = pair // each
    w += expert * w_x
    if W_GROUP > 0:
        scale += expert * scale_x
    if ZERO:
        zero += expert * scale_x
    if LAST:
        last += expert * N
    if INPUT == STATIC:
        x_scale += expert
    if BIAS:
        bias += expert * N
    x_at = row * x_t
    out = expert_products(
        x, x_at, valid, x_scale, row, x_groups, w, n, n_valid, scale, zero, last, table, bias,
        N, K, PACKED, KIND, OFFSET, ZERO, W_GROUP, W_ROWS, W_STEP, W_EXPONENTS, IN_WEIGHT, INPUT,
        X_GROUP, X_EXPONENTS, TYPE, HIGH, BLOCK_SCALED, X_FORMAT, LAST, BIAS, BLOCK_M, BLOCK_N,
        BLOCK_K,
    )  # fmt: skip
    if GATED:
        up = expert_products(
            x, x_at, valid, x_scale, row, x_groups, w, OUT + n, n_valid, scale, zero, last, table,
            bias, N, K, PACKED, KIND, OFFSET, ZERO, W_GROUP, W_ROWS, W_STEP, W_EXPONENTS, IN_WEIGHT,
            INPUT, X_GROUP, X_EXPONENTS, TYPE, HIGH, BLOCK_SCALED, X_FORMAT, LAST, BIAS, BLOCK_M,
            BLOCK_N, BLOCK_K,
        )  # fmt: skip
        out = activated(out, up, limit, ACTIVATION, LIMIT)
    place = y + pair[:, None] * OUT + n[None, :]
    tl.store(place, out.to(y.dtype.element_ty), mask=valid[:, None] & n_valid[None, :])


@triton.jit
def join_kernel(parts, weights, experts, y, each, most, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """y [T, C]: the sum of a token's parts [T E, C] times their weights. An expert that is not one
    of `most` has no part."""
    token = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for place in range(each):
        pair = token * each + place
        expert = tl.load(experts + pair)
        mask = (at < SIZE) & (expert >= 0) & (expert < most)
        part = tl.load(parts + pair * SIZE + at, mask=mask, other=0.0).to(tl.float32)
        total += part * tl.load(weights + pair)
    tl.store(y + token * SIZE + at, total.to(y.dtype.element_ty), mask=at < SIZE)


class Experts:
    """Which launches there are, and of what size, follows from the number of tokens alone."""

    def __init__(
        self,
        request: ExpertsRequest,
        decode: Mapping[str, int] | None = None,
        prefill: Mapping[str, int] | None = None,
    ) -> None:
        self.request, r = request, request
        self.gate_up = recipe(r.scheme, r.dtype, r.hidden, r.device)
        self.down = recipe(r.scheme, r.dtype, r.intermediate, r.device)
        self.configurations = {
            case: given or configured("moe.experts", r, case, defaults.experts(r, case))
            for case, given in (("decode", decode), ("prefill", prefill))
        }

    def prepare(self, source: WeightSource) -> Packed:
        """One projection after the other, so that one is held twice at most."""
        r, data = self.request, []
        kept: dict[str, torch.Tensor] = {}
        for name, asked in (("gate_up", self.gate_up), ("down", self.down)):
            own = [key for key in source.names() if key.startswith(f"{name}.")]
            tensors = {key.removeprefix(f"{name}."): source.read(key) for key in own}
            made = operand(asked, r.scheme, tensors)
            bias = tensors["bias"].contiguous() if r.bias else None
            data.append((made, bias))
            every = made.tensors() if bias is None else made.tensors() | {"bias": bias}
            kept |= {f"{name}.{key}": tensor for key, tensor in every.items()}
        size = sum(tensor.nbytes for tensor in kept.values())
        return Packed(data=data, final_bytes=size, peak_bytes=size, tensors=kept)

    def __call__(
        self,
        x_TC: torch.Tensor,
        weights_TE: torch.Tensor,
        experts_TE: torch.Tensor,
        packed: Packed,
    ) -> torch.Tensor:
        r, (tokens, each) = self.request, experts_TE.shape
        y_TC = torch.empty_like(x_TC)
        pairs = tokens * each
        if not pairs:
            return y_TC
        config, rows = self._tiles(pairs)
        blocks = align(experts_TE.contiguous(), r.experts, rows)
        hidden = x_TC.new_empty((pairs, r.intermediate))
        parts = x_TC.new_empty((pairs, r.hidden))
        (gate_up, first_bias), (down, bias) = packed.data
        self._multiply(x_TC, hidden, self.gate_up, gate_up, first_bias, blocks, config, each)
        self._multiply(hidden, parts, self.down, down, bias, blocks, config, 0)
        block = between(16, power_of_two(r.hidden), 1024)
        launch(
            join_kernel,
            (tokens, triton.cdiv(r.hidden, block)),
            *(parts, weights_TE.contiguous(), experts_TE.contiguous(), y_TC, each, r.experts),
            SIZE=r.hidden,
            BLOCK=block,
            options={"num_warps": 4},
        )
        return y_TC

    def _tiles(self, pairs: int) -> tuple[Mapping[str, int], int]:
        """(configuration, rows of a block), by how many pairs an expert has when all are alike."""
        mean = power_of_two(pairs // self.request.experts)
        if mean <= defaults.FEW_PAIRS:
            return self.configurations["decode"], 16
        config = self.configurations["prefill"]
        return config, between(16, mean, config["block_m"])

    def _multiply(
        self,
        x: torch.Tensor,
        y: torch.Tensor,
        asked: Recipe,
        made: Operand,
        bias: torch.Tensor | None,
        blocks: Blocks,
        config: Mapping[str, int],
        each: int,
    ) -> None:
        """each: experts a token where x has a row a token, 0 where it has one a pair."""
        r, x_scale = self.request, made.input_scale
        if asked.input in ("token", "group"):
            x, x_scale = quantize(x, asked)
        rows, inputs, outputs = made.weight.shape[-2], x.shape[-1], y.shape[-1]
        steps: Any = made.scale if made.scale is not None else made.zero
        launch(
            experts_kernel,
            (blocks.count * triton.cdiv(outputs, config["block_n"]),),
            *(x, x_scale, made.weight, made.scale, made.zero, made.last, made.table, bias, y),
            *(blocks.order, blocks.experts, blocks.rows, blocks.count, each or 1, x.stride(0)),
            0 if x_scale is None else x_scale.shape[-1],
            made.weight.stride(0),
            0 if steps is None else steps.stride(0),
            r.limit,
            **constants(asked, made),
            OUT=outputs,
            N=rows,
            K=inputs,
            GATED=each > 0,
            ACTIVATION=KINDS[r.activation],
            LIMIT=r.limit != 0.0,
            BIAS=bias is not None,
            BLOCK_M=blocks.size,
            BLOCK_N=config["block_n"],
            BLOCK_K=asked.step(config["block_k"], inputs),
            ABREAST=config.get("abreast", 1),
            options={"num_warps": config["warps"], "num_stages": config["stages"]},
        )
