"""Tiles of matrix products with quantized weights, shared by linear and expert kernels.

Legend: M rows (tokens), N outputs, K inputs; a tile is [M, N], and takes BLOCK_K inputs a step.
Codes of weights are multiplied as they are, scales are applied to the products: in every step where
inputs share them by groups, else once behind the last. IN_WEIGHT: where a code times its group's
scale is exact in the type that is multiplied, that is done first, and a step takes several groups.
"""

from __future__ import annotations

import triton
import triton.language as tl

FLOAT = tl.constexpr(0)  # of the inputs' type
INT8 = tl.constexpr(1)  # int8 or uint8
FP8_BITS = tl.constexpr(2)  # e4m3 as uint8, for devices without the type
FP8 = tl.constexpr(3)
INT4 = tl.constexpr(4)  # two in a byte
FP4 = tl.constexpr(5)
NF4 = tl.constexpr(6)

AS_IS = tl.constexpr(0)  # inputs are of a float type
TOKEN = tl.constexpr(1)  # quantized, a scale a row
GROUP = tl.constexpr(2)  # quantized, a scale for X_GROUP inputs of a row
STATIC = tl.constexpr(3)  # to be quantized here, by one scale


@triton.jit
def exponents(code):
    """ue8m0 codes -> fp32. Code 0 is 2**-127, which fp32 has as a subnormal number."""
    code = code.to(tl.int32)
    return tl.where(code == 0, 0x00400000, code << 23).to(tl.float32, bitcast=True)


@triton.jit
def scales(numbers, EXPONENTS: tl.constexpr):
    """Scales as fp32."""
    if EXPONENTS:
        numbers = exponents(numbers)
    return numbers.to(tl.float32)


@triton.jit
def fp8_values(bits):
    """The bits of e4m3 as fp16 with another bias, which is 8 exponents away. Exact."""
    bits = bits.to(tl.uint16)
    half = (((bits & 0x7F) << 7) | ((bits & 0x80) << 8)).to(tl.float16, bitcast=True)
    return half.to(tl.float32) * 256.0


@triton.jit
def fp4_values(code):
    """As `fp8_values`, for e2m1: 14 exponents away."""
    code = code.to(tl.uint16)
    half = (((code & 7) << 9) | ((code & 8) << 12)).to(tl.float16, bitcast=True)
    return half.to(tl.float32) * 16384.0


@triton.jit
def nearest_integer(x):
    """fp32 of a size below 2**22 -> the nearest integer, ties to even: adding 1.5 * 2**23 leaves no
    bits for a fraction."""
    return (x + 12582912.0) - 12582912.0


@triton.jit
def quantized(x, TYPE: tl.constexpr, HIGH: tl.constexpr):
    """fp32 -> the nearest of the values of TYPE, up to HIGH."""
    x = tl.minimum(tl.maximum(x, -HIGH), HIGH)
    if tl.int8 == TYPE:
        x = nearest_integer(x)
    return x.to(TYPE)


@triton.jit
def codes(
    w, w_at, zero, table, k, n_valid, K: tl.constexpr, KIND: tl.constexpr, OFFSET: tl.constexpr,
    ZERO: tl.constexpr, EVEN: tl.constexpr, BLOCK_K: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """[K, N] of TYPE: the weights of one step, without their scales.

    w_at [N]: where rows begin, in elements of `w`. k: the first input. zero [N]. table: of NF4, in
    TYPE.
    """
    INTEGER: tl.constexpr = KIND == INT8 if KIND < INT4 else KIND == INT4
    if KIND >= INT4:
        at = k // 2 + tl.arange(0, BLOCK_K // 2)
        mask = n_valid[:, None]
        if not EVEN:
            mask = mask & (at < K // 2)[None, :]
        both = tl.load(w + w_at[:, None] + at[None, :], mask=mask, other=0)
        low, high = both & 15, both >> 4
        if KIND == NF4:  # read before they are spread over more registers
            low, high = tl.load(table + low.to(tl.int32)), tl.load(table + high.to(tl.int32))
        code = tl.trans(tl.interleave(low, high))
    else:
        at = k + tl.arange(0, BLOCK_K)
        mask = n_valid[None, :]
        if not EVEN:
            mask = mask & (at < K)[:, None]
        code = tl.load(w + w_at[None, :] + at[:, None], mask=mask, other=0.0)
    if KIND == FP8_BITS:
        code = fp8_values(code).to(TYPE)
    elif KIND == FP4:
        code = fp4_values(code).to(TYPE)
    elif INTEGER:
        if ZERO or (OFFSET != 0):
            code = code.to(tl.int16) - OFFSET
            if ZERO:
                code = code - zero.to(tl.int16)[None, :]
        if tl.int8 == TYPE:
            code = code.to(tl.int8)
        else:
            code = code.to(tl.float32).to(TYPE)
    return code


@triton.jit
def scaled(bits, scale, W_EXPONENTS: tl.constexpr, TYPE: tl.constexpr):
    """Bits of fp32 [N, K], times scale [N, G]: of TYPE, bf16 or fp32. W_EXPONENTS: scales are the
    exponents of fp32. What is exact is not rounded: its lower bits are cut off."""
    N: tl.constexpr = bits.shape[0]
    K: tl.constexpr = bits.shape[1]
    GROUPS: tl.constexpr = scale.shape[1]
    if W_EXPONENTS:
        scale = (scale.to(tl.int32) << 23).to(tl.float32, bitcast=True)
    value = tl.reshape(bits.to(tl.float32, bitcast=True), (N, GROUPS, K // GROUPS))
    value = tl.reshape(value * scale.to(tl.float32)[:, :, None], (N, K))
    if tl.bfloat16 == TYPE:
        high = value.to(tl.int32, bitcast=True) >> 16
        value = high.to(tl.int16).to(tl.bfloat16, bitcast=True)
    return value


@triton.jit
def scaled_codes(
    w, w_at, scale, k, n_valid, K: tl.constexpr, KIND: tl.constexpr, W_EXPONENTS: tl.constexpr,
    EVEN: tl.constexpr, BLOCK_K: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """[K, N] of TYPE: the weights of one step times scale [N, G], of KIND FP4 or FP8_BITS.

    A code's bits become the lowest exponents and the highest fraction of fp32, which makes it
    2**126 (FP4) or 2**120 times too small; `prepared.scales_of_weights` has put that into the
    scales. Arguments are as in `codes`.
    """
    PACKED: tl.constexpr = 2 if KIND == FP4 else 1
    at = k // PACKED + tl.arange(0, BLOCK_K // PACKED)
    mask = n_valid[:, None]
    if not EVEN:
        mask = mask & (at < K // PACKED)[None, :]
    code = tl.load(w + w_at[:, None] + at[None, :], mask=mask, other=0)
    code = code.to(tl.int8, bitcast=True).to(tl.int32)  # the sign is in all higher bits
    if KIND == FP4:  # 0x81C00000: the sign, two bits of the exponent, one of the fraction
        low = scaled(((code << 28) >> 6) & -0x7E400000, scale, W_EXPONENTS, TYPE)
        high = scaled((code << 18) & -0x7E400000, scale, W_EXPONENTS, TYPE)
        weight = tl.interleave(low, high)
    else:  # 0x87F00000: four bits and three
        weight = scaled((code << 20) & -0x78100000, scale, W_EXPONENTS, TYPE)
    return tl.trans(weight)


@triton.jit
def group_scales(
    scale, scale_at, n_valid, k, last, W_GROUP: tl.constexpr, W_STEP: tl.constexpr,
    BLOCK_K: tl.constexpr,
):  # fmt: skip
    """[N, G]: the scales of a step's groups as stored, from input k on; 0 from `last` on."""
    groups = k // W_GROUP + tl.arange(0, (BLOCK_K + W_GROUP - 1) // W_GROUP)
    mask = n_valid[:, None] & (groups * W_GROUP < last)[None, :]
    return tl.load(scale + groups[None, :] * W_STEP + scale_at[:, None], mask=mask, other=0.0)


@triton.jit
def _group(k, W_GROUP: tl.constexpr):
    """The group of input k; 0 where all inputs share one."""
    group = 0
    if W_GROUP > 0:
        group = k // W_GROUP
    return group


@triton.jit
def products(
    x, x_at, x_valid, x_scale, x_scale_at, w, w_at, n_valid, scale, zero, scale_at, table,
    first, last,
    K: tl.constexpr, KIND: tl.constexpr, OFFSET: tl.constexpr, ZERO: tl.constexpr,
    W_GROUP: tl.constexpr, W_STEP: tl.constexpr, W_EXPONENTS: tl.constexpr,
    IN_WEIGHT: tl.constexpr, INPUT: tl.constexpr, X_GROUP: tl.constexpr, X_EXPONENTS: tl.constexpr,
    TYPE: tl.constexpr, HIGH: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """[M, N] fp32: the sum over inputs from `first` to `last`, which are multiples of BLOCK_K (or
    the end). Scales that rows or channels share are left to the caller.

    x_at [M], x_scale_at [M]: where rows begin. INPUT: what is read at `x`; STATIC: a scale at
    x_scale. scale, zero: [K / W_GROUP, W_STEP]; scale_at [N]: columns of them. W_GROUP of 0: no
    scales in the steps. IN_WEIGHT: see `scaled_codes`; else BLOCK_K is at most W_GROUP. TYPE: what
    is multiplied.
    """
    EVEN: tl.constexpr = K % BLOCK_K == 0
    BY_STEP: tl.constexpr = ((W_GROUP > 0) and not IN_WEIGHT) or (INPUT == GROUP)
    INTEGERS: tl.constexpr = tl.int8 == TYPE
    if INTEGERS and not BY_STEP:
        acc = tl.zeros((BLOCK_M, BLOCK_N), tl.int32)
    else:
        acc = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    if INPUT == STATIC:
        step_size = tl.load(x_scale).to(tl.float32)
    z, w_s, x_s = w_at, w_at, x_at
    if ZERO:
        z = tl.load(zero + _group(first, W_GROUP) * W_STEP + scale_at, mask=n_valid, other=0)
    if IN_WEIGHT:
        w_s = group_scales(scale, scale_at, n_valid, first, last, W_GROUP, W_STEP, BLOCK_K)
    elif W_GROUP > 0:
        w_s = tl.load(scale + first // W_GROUP * W_STEP + scale_at, mask=n_valid, other=0.0)
    if INPUT == GROUP:
        x_s = tl.load(x_scale + x_scale_at + first // X_GROUP, mask=x_valid, other=0.0)
    for k in range(first, last, BLOCK_K):
        at = k + tl.arange(0, BLOCK_K)
        mask = x_valid[:, None]
        if not EVEN:
            mask = mask & (at < K)[None, :]
        given = tl.load(x + x_at[:, None] + at[None, :], mask=mask, other=0.0)
        if INPUT == STATIC:
            given = quantized(given.to(tl.float32) / step_size, TYPE, HIGH)
        if IN_WEIGHT:
            weight = scaled_codes(
                w, w_at, w_s, k, n_valid, K, KIND, W_EXPONENTS, EVEN, BLOCK_K, TYPE
            )
            w_s = group_scales(
                scale, scale_at, n_valid, k + BLOCK_K, last, W_GROUP, W_STEP, BLOCK_K
            )
        else:
            weight = codes(
                w, w_at, z, table, k, n_valid, K, KIND, OFFSET, ZERO, EVEN, BLOCK_K, TYPE
            )
        if BY_STEP:
            if INTEGERS:
                part = tl.dot(given, weight, out_dtype=tl.int32).to(tl.float32)
            else:
                part = tl.dot(given, weight, input_precision="ieee")
            after = k + BLOCK_K  # scales of the next step are on their way during this one
            if W_GROUP > 0:
                part = part * scales(w_s, W_EXPONENTS)[None, :]
                row = after // W_GROUP * W_STEP
                mask = n_valid & (after < last)
                w_s = tl.load(scale + row + scale_at, mask=mask, other=0.0)
                if ZERO:
                    z = tl.load(zero + row + scale_at, mask=mask, other=0)
            if INPUT == GROUP:
                part = part * scales(x_s, X_EXPONENTS)[:, None]
                mask = x_valid & (after < last)
                x_s = tl.load(x_scale + x_scale_at + after // X_GROUP, mask=mask, other=0.0)
            acc += part
        elif INTEGERS:
            acc = tl.dot(given, weight, acc, out_dtype=tl.int32)
        elif HIGH > 0:  # 8-bit floats: units that add them up in fewer bits do so for one step only
            acc = tl.dot(given, weight, acc, max_num_imprecise_acc=BLOCK_K)
        else:
            acc = tl.dot(given, weight, acc, input_precision="ieee")
    return acc.to(tl.float32)


@triton.jit
def block_scaled_products(
    x, x_at, x_valid, x_scale, x_scale_at, w, w_at, n_valid, scale, scale_at, first, last,
    K: tl.constexpr, KIND: tl.constexpr, W_STEP: tl.constexpr, INPUT: tl.constexpr,
    X_FORMAT: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """As `products`, for formats whose 32 inputs share an exponent, on the device's own unit for
    them. K is a multiple of BLOCK_K. X_FORMAT: name of the inputs' type in `tl.dot_scaled`."""
    acc = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for k in range(first, last, BLOCK_K):
        at = k + tl.arange(0, BLOCK_K)
        groups = k // 32 + tl.arange(0, BLOCK_K // 32)
        given = tl.load(x + x_at[:, None] + at[None, :], mask=x_valid[:, None], other=0.0)
        places = scale + groups[None, :] * W_STEP + scale_at[:, None]
        w_exponents = tl.load(places, mask=n_valid[:, None], other=0)
        if KIND == FP4:
            at = k // 2 + tl.arange(0, BLOCK_K // 2)
        weight = tl.load(w + w_at[None, :] + at[:, None], mask=n_valid[None, :], other=0.0)
        W_FORMAT: tl.constexpr = "e2m1" if KIND == FP4 else "e4m3"
        if INPUT == GROUP:
            places = x_scale + x_scale_at[:, None] + groups[None, :]
            x_exponents = tl.load(places, mask=x_valid[:, None], other=0)
            acc = tl.dot_scaled(given, x_exponents, X_FORMAT, weight, w_exponents, W_FORMAT, acc)
        else:
            acc = tl.dot_scaled(given, None, X_FORMAT, weight, w_exponents, W_FORMAT, acc)
    return acc


@triton.jit
def tile_of(program, rows, columns, ABREAST: tl.constexpr):
    """(row, column) of a program's tile: ABREAST rows are walked together, so that what they read
    is still in the cache."""
    wide = ABREAST * columns
    first = program // wide * ABREAST
    high = tl.minimum(rows - first, ABREAST)
    within = program % wide
    return first + within % high, within // high
