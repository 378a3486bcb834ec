"""Quantized tensors in their canonical form: packing, values, and inputs. See `spec.quant`.

Plain torch, right on every device: what a kernel is compared with, and what one may start from.
Legend: N outputs, K inputs, T tokens; "..." for the axis of experts.
Sources: OCP Microscaling Formats v1.0 (fp4_e2m1, ue8m0); QLoRA, arXiv 2305.14314 (nf4).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .quant import QuantScheme

if TYPE_CHECKING:
    import torch

FP4_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Of the codes 0 to 7; codes 8 to 15 are the same, negative."""

NF4_VALUES = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
"""Of the codes 0 to 15: quantiles of a normal distribution, scaled to [-1, 1]."""

LARGEST = {
    "int8": 127.0,
    "int4": 7.0,
    "fp8_e4m3": 448.0,
    "fp8_e5m2": 57344.0,
    "fp8_e4m3fnuz": 240.0,
    "fp4_e2m1": 6.0,
}
"""The largest magnitude that a type is scaled to."""


def pack(codes: torch.Tensor) -> torch.Tensor:
    """uint8 codes 0 to 15 [..., K] -> uint8 [..., K/2], even inputs in the low halves."""
    return codes[..., 0::2] | (codes[..., 1::2] << 4)


def unpack(packed: torch.Tensor) -> torch.Tensor:
    """The inverse of `pack`."""
    import torch

    return torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2)


def exponents(codes: torch.Tensor) -> torch.Tensor:
    """ue8m0: uint8 codes -> fp32 powers of two, 2 ** (code - 127)."""
    import torch

    return torch.exp2(codes.to(torch.float32) - 127.0)


def values(scheme: QuantScheme, weight: torch.Tensor) -> torch.Tensor:
    """The stored numbers in fp32, before zero points and scales: [..., N, K]."""
    import torch

    if scheme.packed == 1:
        return weight.float()
    codes = unpack(weight)
    if scheme.weight == "uint4":
        return codes.float()
    if scheme.weight == "int4":
        return codes.float() - 8.0
    if scheme.weight == "fp4_e2m1":
        return values_of_fp4(codes)
    return torch.tensor(NF4_VALUES, device=weight.device)[codes.int()]


def spread(scheme: QuantScheme, scale: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """A scale or zero point for every weight: broadcasts with [..., N, K].

    shape: of the weight, with its 4-bit elements counted. A "tensor" granularity must be one
    number a tensor; several parts are spread by the caller.
    """
    rows, columns = shape[-2:]
    if scheme.granularity == "tensor":
        return scale[..., None]
    if scheme.granularity == "channel":
        return scale.reshape(*shape[:-1], 1)
    if scheme.granularity == "group":
        return scale.repeat_interleave(scheme.group, dim=-1)[..., :columns]
    high, wide = scheme.block
    tall = scale.repeat_interleave(high, dim=-2)[..., :rows, :]
    return tall.repeat_interleave(wide, dim=-1)[..., :columns]


def by_rows(numbers: torch.Tensor, rows: int, parts: tuple[int, ...] = ()) -> torch.Tensor:
    """One number a part [..., parts] -> one a row [..., rows]. parts: rows of each; equal if ()."""
    import torch

    count = numbers.shape[-1]
    if count == 1:
        return numbers.expand(*numbers.shape[:-1], rows)
    sizes = parts or (rows // count,) * count
    if len(sizes) != count or sum(sizes) != rows:
        raise ValueError(f"{count} numbers for {rows} rows in parts of {sizes}")
    repeats = torch.tensor(sizes, device=numbers.device)
    return numbers.repeat_interleave(repeats, dim=-1)


def dequantize(
    scheme: QuantScheme, tensors: Mapping[str, torch.Tensor], parts: tuple[int, ...] = ()
) -> torch.Tensor:
    """The weight in fp32 [..., N, K], inputs in the layer's own order.

    tensors: canonical, as `spec.quant` lists them. parts: rows of the fused parts, for numbers that
    are one a part. Raises ValueError where they do not fit.
    """
    value = values(scheme, tensors["weight"])
    rows, shape = value.shape[-2], tuple(value.shape)
    if scheme.zero_point:
        zero = tensors["zero"].float()
        value = value - spread(scheme, _by_part(scheme, zero, rows, parts), shape)
    scale = tensors["scale"]
    scale = exponents(scale) if scheme.scale == "ue8m0" else scale.float()
    value = value * spread(scheme, _by_part(scheme, scale, rows, parts), shape)
    if scheme.global_scale:
        value = value * by_rows(tensors["global_scale"], rows, parts)[..., None]
    if scheme.reordered:
        value = value[..., tensors["order"].argsort().int()]
    return value


def _by_part(
    scheme: QuantScheme, numbers: torch.Tensor, rows: int, parts: tuple[int, ...]
) -> torch.Tensor:
    return by_rows(numbers, rows, parts) if scheme.granularity == "tensor" else numbers


def rounded(x: torch.Tensor, dtype: str) -> torch.Tensor:
    """fp32 -> the nearest values of a type, in fp32; beyond its range the largest."""
    import torch

    from .torch_types import torch_dtype

    high = LARGEST[dtype]
    if dtype in ("int8", "int4"):
        return x.round().clamp(-high, high)
    if dtype == "fp4_e2m1":
        return values_of_fp4(fp4_codes(x))
    return x.clamp(-high, high).to(torch_dtype(dtype)).to(torch.float32)


def fp4_codes(x: torch.Tensor) -> torch.Tensor:
    """fp32 -> uint8 codes of the nearest fp4_e2m1 values, ties to the even code."""
    import torch

    edges = torch.tensor((0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0), device=x.device)
    size = x.abs()
    code = torch.bucketize(size, edges)  # edges[i - 1] < size <= edges[i]: a tie goes down
    tie = (size[..., None] == edges).any(-1) & (code % 2 == 1)
    code = code + tie.to(code.dtype)
    return (code + 8 * torch.signbit(x).to(code.dtype)).to(torch.uint8)


def values_of_fp4(codes: torch.Tensor) -> torch.Tensor:
    """uint8 codes -> fp32."""
    import torch

    table = torch.tensor((*FP4_VALUES, *(-v for v in FP4_VALUES)), device=codes.device)
    return table[codes.int()]


def input_scales(scheme: QuantScheme, x_TK: torch.Tensor) -> torch.Tensor:
    """fp32 scales of dynamically quantized inputs: [1, 1], [T, 1] or [T, K/group]; powers of two
    by the OCP rule (`shared_exponents`) where the scheme's activation scale is ue8m0."""
    import torch

    size = x_TK.float().abs()
    if scheme.activation_granularity == "group":
        groups = -(-x_TK.shape[-1] // scheme.activation_group)
        padded = torch.nn.functional.pad(
            size, (0, groups * scheme.activation_group - x_TK.shape[-1])
        )
        shape = (*size.shape[:-1], groups, scheme.activation_group)
        peak = padded.reshape(shape).amax(-1)
    else:
        token = scheme.activation_granularity == "token"
        peak = size.amax(-1, keepdim=True) if token else size.amax().reshape(1, 1)
    if scheme.activation_scale == "ue8m0":
        return exponents(shared_exponents(peak, scheme.activation))
    scale: torch.Tensor = peak.clamp(min=1e-12) / LARGEST[scheme.activation]
    return scale


def shared_exponents(peak: torch.Tensor, dtype: str) -> torch.Tensor:
    """uint8 ue8m0 codes for groups with these largest magnitudes.

    The OCP rule: floor(log2(peak)) less the largest exponent of the type (8 for fp8_e4m3, 15 for
    fp8_e5m2, 2 for fp4_e2m1). What then exceeds the type's range is clamped to its largest value.
    """
    import torch

    largest = {"fp8_e4m3": 8, "fp8_e5m2": 15, "fp4_e2m1": 2}[dtype]
    exponent = torch.floor(torch.log2(peak.clamp(min=2.0**-126))) - largest
    return (exponent + 127).clamp(0, 254).to(torch.uint8)


def as_quantized(
    scheme: QuantScheme, x_TK: torch.Tensor, input_scale: torch.Tensor | None = None
) -> torch.Tensor:
    """What a kernel of the scheme sees of its inputs: fp32 [T, K], rounded to the activation type.
    Unchanged where the scheme leaves inputs alone. input_scale: of static activations, fp32; groups
    with scales of their own (NVFP4) have those found here, in `activation_scale` times it."""
    import torch

    if not scheme.activation:
        return x_TK.float()
    if not scheme.dynamic:
        assert input_scale is not None
        scale = input_scale.float().max().reshape(1, 1)
        if scheme.activation_granularity == "group":
            local = rounded(input_scales(scheme, x_TK) / scale, scheme.activation_scale)
            scale = torch.where(local == 0, 1.0, local * scale)
    else:
        scale = input_scales(scheme, x_TK)
    if scheme.activation_granularity == "group":
        scale = scale.repeat_interleave(scheme.activation_group, dim=-1)[..., : x_TK.shape[-1]]
    return rounded(x_TK.float() / scale, scheme.activation) * scale


def to_fnuz(weight: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """From OCP fp8_e4m3 to fp8_e4m3fnuz: the same bits mean half there, so the scale doubles.

    OCP's negative zero is fnuz's NaN, and becomes zero; OCP's NaN is a number there, so it raises
    ValueError. Source: the two encodings in the OCP OFP8 specification and in LLVM's APFloat.
    """
    import torch

    bits = weight.view(torch.uint8)
    if (bits & 0x7F == 0x7F).any():
        raise ValueError("an fp8 weight is NaN")
    bits = torch.where(bits == 0x80, torch.zeros_like(bits), bits)
    return bits.view(torch.float8_e4m3fnuz), scale * 2.0
