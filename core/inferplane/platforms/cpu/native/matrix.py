"""Weights in panels for the compiled products, in bf16 or as codes of 8 or 4 bits.

One form for linear layers and for experts, which have one more axis in front. Legend: X experts,
N outputs, K inputs, G groups of inputs that share a scale, P panels of 32 outputs.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from inferplane.spec import QuantScheme
from inferplane.spec.quantized import FP4_VALUES, LARGEST, NF4_VALUES, by_rows, exponents
from inferplane.spec.torch_types import torch_dtype

from .arena import arena
from .library import library
from .supports import integers

PANEL = 32
PLAIN, EIGHT, FOUR, INT8 = range(4)
_SCALES = {torch.float32: 1, torch.bfloat16: 2, torch.float16: 3}
_SHARED = {"tensor": 1, "token": 2, "group": 3}
_INPUTS = {  # mantissa bits, least exponent, largest exponent; integers have steps of one
    "int8": (7, 7, 6),
    "int4": (7, 7, 2),
    "fp8_e4m3": (3, -6, 8),
    "fp8_e4m3fnuz": (3, -7, 7),
    "fp8_e5m2": (2, -14, 15),
    "fp4_e2m1": (1, 0, 2),
}


class _Matrix(ctypes.Structure):
    """`Matrix` of source/matrix.h."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("codes", "table", "scales", "zeros", "bias")),
        *((name, ctypes.c_void_p) for name in ("order", "input_scales")),
        *((name, ctypes.c_int64) for name in ("outputs", "inputs", "group", "kind", "scale")),
        *((name, ctypes.c_int64) for name in ("zero", "shared", "input_group", "mantissa")),
        *((name, ctypes.c_int64) for name in ("least", "power")),
        ("largest", ctypes.c_float),
    ]


@dataclass(slots=True)
class Matrix:
    """fields: what the kernels read; its pointers go into `tensors`, which must live as long."""

    fields: _Matrix
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    address: int = field(init=False)

    def __post_init__(self) -> None:
        self.address = ctypes.addressof(self.fields)

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors.values())


def pack(
    scheme: QuantScheme, tensors: Mapping[str, torch.Tensor], parts: tuple[int, ...] = ()
) -> Matrix:
    """From canonical tensors, "bias" among them. parts: as `spec.quantized.dequantize`."""
    weight = tensors["weight"].contiguous()
    experts = weight.shape[0] if weight.dim() == 3 else 1
    outputs, inputs = weight.shape[-2], weight.shape[-1] * scheme.packed
    made = Matrix(_Matrix(outputs=outputs, inputs=inputs, group=inputs))
    set_tensor = _setter(made)
    if "bias" in tensors:
        set_tensor("bias", _panels(tensors["bias"].float().reshape(experts, outputs, 1), experts))
    if scheme.quantized:
        _scales(scheme, tensors, parts, made, experts)
        _activations(scheme, tensors, made)
    _codes(scheme, weight, made, experts)
    return made


def _setter(made: Matrix) -> Callable[[str, torch.Tensor], None]:
    """Keeps a tensor and tells the kernels where it is."""

    def set_tensor(name: str, tensor: torch.Tensor) -> None:
        made.tensors[name] = tensor
        setattr(made.fields, name, tensor.data_ptr())

    return set_tensor


def _codes(scheme: QuantScheme, weight: torch.Tensor, made: Matrix, experts: int) -> None:
    fields, set_tensor = made.fields, _setter(made)
    panels = -(-fields.outputs // PANEL)
    width, bits = fields.inputs, 16
    fields.kind, mapping = PLAIN, None
    if integers(scheme):
        fields.kind, width, bits = INT8, -(-width // 4) * 4, 8
    elif scheme.quantized:
        fields.kind, bits = (FOUR, 4) if scheme.packed == 2 else (EIGHT, 8)
        table, mapping = _table(scheme)
        set_tensor("table", table)
    packed = arena().take(experts * panels * PANEL * width * bits // 8)
    set_tensor("codes", packed)
    place = None if mapping is None else mapping.data_ptr()
    library().ip_pack(made.address, weight.data_ptr(), place, experts)


def _table(scheme: QuantScheme) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(bf16 values of the codes, what a stored byte becomes: a sign and 7 bits). All are exact in
    bf16 but those of nf4, which are rounded.

    Integers of 8 bits count in halves: 2 v + 1 is odd, and so has a sign and 128 magnitudes, all
    exact in bf16. Scales are halved, and what is too much is a zero point of one.
    """
    kind = scheme.weight
    if kind in ("int4", "uint4"):
        values = torch.arange(16) - (8 if kind == "int4" else 0)
    elif kind == "fp4_e2m1":
        values = torch.tensor((*FP4_VALUES, *(-v for v in FP4_VALUES)))
    elif kind == "nf4":
        values = torch.tensor(NF4_VALUES)
    elif kind in ("int8", "uint8"):
        stored = torch.arange(256)
        value = stored - 128 if kind == "uint8" else torch.where(stored < 128, stored, stored - 256)
        mapping = torch.where(value >= 0, value, 128 - 1 - value).to(torch.uint8)
        return (2 * torch.arange(128) + 1).to(torch.bfloat16), mapping
    else:
        bits = torch.arange(256, dtype=torch.uint8)
        return bits[:128].view(torch_dtype(kind)).to(torch.bfloat16), bits
    return values.to(torch.bfloat16).repeat(2), None


def _scales(
    scheme: QuantScheme,
    tensors: Mapping[str, torch.Tensor],
    parts: tuple[int, ...],
    made: Matrix,
    experts: int,
) -> None:
    fields, set_tensor = made.fields, _setter(made)
    rows, whole = fields.outputs, scheme.weight in ("int8", "uint8") and not integers(scheme)
    scale = tensors["scale"]
    exact = scheme.scale in ("fp16", "bf16") and not whole
    if scheme.scale == "ue8m0":
        scale = exponents(scale)
    scale = scale if exact else scale.float()
    if scheme.granularity == "group":
        fields.group = min(scheme.group, fields.inputs)
    elif scheme.granularity == "block":
        fields.group = min(scheme.block[1], fields.inputs)
    scale = _each(scheme, scale, rows, parts)
    if scheme.global_scale:
        numbers = by_rows(tensors["global_scale"].float(), rows, parts)
        scale = scale.float() * numbers.reshape(*scale.shape[:-1], 1)
    if whole:
        scale = scale * 0.5
    set_tensor("scales", _panels(scale, experts))
    fields.scale = _SCALES[made.tensors["scales"].dtype]
    fields.zero = 1 if whole else 0
    if scheme.zero_point or scheme.weight == "uint8":
        zero = torch.zeros(scale.shape)
        if scheme.zero_point:
            zero = _each(scheme, tensors["zero"].float(), rows, parts)
        if scheme.weight == "uint8":
            zero = 2 * zero - 255
        set_tensor("zeros", _panels(zero.to(torch.bfloat16), experts))
        fields.zero = 2


def _each(
    scheme: QuantScheme, numbers: torch.Tensor, rows: int, parts: tuple[int, ...]
) -> torch.Tensor:
    """[..., N, G], whatever shares a scale."""
    if scheme.granularity == "tensor":
        return by_rows(numbers, rows, parts)[..., None]
    if scheme.granularity == "channel":
        return numbers if numbers.shape[-2:] == (rows, 1) else numbers[..., None]
    if scheme.granularity == "block":
        return numbers.repeat_interleave(scheme.block[0], dim=-2)[..., :rows, :]
    return numbers


def _panels(numbers: torch.Tensor, experts: int) -> torch.Tensor:
    """[..., N, G] -> [X, P, G, 32], zeros behind the last output."""
    numbers = numbers.reshape(experts, -1, numbers.shape[-1])
    padded = torch.nn.functional.pad(numbers, (0, 0, 0, -numbers.shape[1] % PANEL))
    panels = padded.unflatten(1, (-1, PANEL)).transpose(2, 3)
    return arena().take(panels.nbytes).view(panels.dtype).view(panels.shape).copy_(panels)


def _activations(scheme: QuantScheme, tensors: Mapping[str, torch.Tensor], made: Matrix) -> None:
    fields, set_tensor = made.fields, _setter(made)
    if scheme.reordered:
        set_tensor("order", tensors["order"].to(torch.int32).contiguous())
    if not scheme.activation:
        return
    fields.mantissa, fields.least, largest = _INPUTS[scheme.activation]
    fields.largest = LARGEST[scheme.activation]
    fields.shared = _SHARED[scheme.activation_granularity]
    fields.input_group = scheme.activation_group
    if not scheme.dynamic:
        fields.shared = _SHARED["tensor"]
        set_tensor("input_scales", tensors["input_scale"].float().amax(-1).reshape(-1))
    elif scheme.activation_scale == "ue8m0":
        fields.power = largest
