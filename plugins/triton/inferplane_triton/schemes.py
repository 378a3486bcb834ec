"""Which quantization schemes the kernels have, and how each is computed. No torch.

N outputs, K inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from inferplane.spec import DeviceProps, QuantScheme, Support

Kind = Literal["float", "int8", "fp8_bits", "fp8", "int4", "fp4", "nf4"]
Input = Literal["as_is", "token", "group", "static"]

WEIGHTS = ("int8", "uint8", "int4", "uint4", "fp8_e4m3", "fp4_e2m1", "nf4")
INPUTS = ("int8", "fp8_e4m3")
SCALES = ("fp32", "bf16", "fp16", "ue8m0", "fp8_e4m3")
FEATURES = frozenset(
    {
        "quantized",
        "zero_point",
        "reordered",
        "global_scale",
        "quantized_activation",
        "static_activation",
    }
)
_MEETS = {
    "int8": ("int8", "int4", "uint4"),
    "fp8_e4m3": ("fp8_e4m3", "int4", "uint4", "fp4_e2m1"),
}
"""Input type -> weight types whose codes are exact in it."""

_KINDS: dict[str, Kind] = {
    "int8": "int8",
    "uint8": "int8",
    "int4": "int4",
    "uint4": "int4",
    "fp8_e4m3": "fp8_bits",
    "fp4_e2m1": "fp4",
    "nf4": "nf4",
}
_CODE_BITS = {"fp4_e2m1": 2, "fp8_e4m3": 4}
_SCALE_BITS = {"ue8m0": 0, "fp8_e4m3": 4}
_TYPE_BITS = {"fp32": 24, "bf16": 8}
"""Significant bits. A product has as many as both factors together; a power of two adds none. Types
are those whose exponents reach as far as fp32's."""
_LARGEST = {"int8": 127.0, "fp8_e4m3": 448.0, "fp8_e4m3fnuz": 240.0}
SHARED_EXPONENT = 32  # inputs that share one in the formats of the OCP
LEAST_GROUP = 16  # inputs of the smallest matrix product
LEAST_BYTES = 32  # the same, of 8-bit types


def features(device: DeviceProps) -> frozenset[str]:
    """What is named on a device: quantized inputs only where it multiplies such types."""
    if "int8" in device.dtypes or fp8_type(device):
        return FEATURES
    return FEATURES - {"quantized_activation", "static_activation"}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How products with a weight are computed.

    kind: what its elements are. type: dtype name of what is multiplied. offset: what is subtracted
    from codes. zero: whether zero points are, too. group, rows: inputs and outputs that share a
    scale of the steps, 0 for none. exponents: those scales are ue8m0. input: what inputs are when
    they are read. input_group: how many share a scale. input_exponents: those scales are ue8m0.
    high: the largest value of `type`, if inputs are quantized. most_k: inputs that a step may take
    at most, 0 for any. block_scaled: on the device's own unit for shared exponents. in_weight:
    scales of groups are multiplied into the weight, which is exact in `type`, not into products.
    """

    kind: Kind
    type: str
    offset: int = 0
    zero: bool = False
    group: int = 0
    rows: int = 0
    exponents: bool = False
    input: Input = "as_is"
    input_group: int = 0
    input_exponents: bool = False
    high: float = 0.0
    most_k: int = 0
    block_scaled: bool = False
    in_weight: bool = False

    @property
    def packed(self) -> int:
        """Weight elements a stored one."""
        return 2 if self.kind in ("int4", "fp4", "nf4") else 1

    def step(self, wanted: int, inputs: int) -> int:
        """Inputs a step: as many as are wanted, where scales and the end of the inputs allow it."""
        step = min(wanted, self.most_k or wanted)
        while self.block_scaled and inputs % step:
            step //= 2
        return step


def recipe(scheme: QuantScheme, dtype: str, inputs: int, device: DeviceProps) -> Recipe:
    """For a scheme that `answer` accepts. inputs: K, of one rank."""
    if not scheme.quantized:
        return Recipe(kind="float", type=dtype)
    grouped = {"group": (scheme.group, 1), "block": (scheme.block[1], scheme.block[0])}
    group, rows = grouped.get(scheme.granularity, (0, 0))
    kind, multiplied, high, input_group = _KINDS[scheme.weight], dtype, 0.0, 0
    given: Input = "as_is"
    if scheme.activation:
        fnuz = scheme.activation == "fp8_e4m3" and fp8_type(device) == "fp8_e4m3fnuz"
        multiplied = "fp8_e4m3fnuz" if fnuz else scheme.activation
        high = _LARGEST[multiplied]
        kind = "fp8" if kind == "fp8_bits" else kind
        given = _input(scheme)
        input_group = scheme.activation_group if given == "group" else 0
    shared = [size for size in (group, input_group) if size]
    own_unit = _block_scaled(scheme, dtype, inputs, device)
    in_weight = not own_unit and _exact(scheme, dtype)
    return Recipe(
        kind=kind,
        type=multiplied,
        offset=8 if scheme.weight == "int4" else 0,
        zero=scheme.zero_point,
        group=group,
        rows=rows,
        exponents=bool(group) and scheme.scale == "ue8m0",
        input=given,
        input_group=input_group,
        input_exponents=given == "group" and scheme.activation_scale == "ue8m0",
        high=high,
        most_k=0 if own_unit or in_weight else min(shared, default=0),
        block_scaled=own_unit,
        in_weight=in_weight,
    )


def _input(scheme: QuantScheme) -> Input:
    if not scheme.dynamic or scheme.activation_granularity == "tensor":
        return "static"  # a scale that was found over the whole input is given like a stored one
    return "group" if scheme.activation_granularity == "group" else "token"


def _block_scaled(scheme: QuantScheme, dtype: str, inputs: int, device: DeviceProps) -> bool:
    if "fp4_block_gemm" not in device.capabilities or dtype not in ("bf16", "fp16"):
        return False
    weight = scheme.weight in ("fp4_e2m1", "fp8_e4m3") and scheme.scale == "ue8m0"
    shared = scheme.granularity == "group" and scheme.group == SHARED_EXPONENT
    if scheme.activation:
        same = scheme.activation == "fp8_e4m3" and scheme.activation_scale == "ue8m0"
        own = _input(scheme) == "group" and scheme.activation_group == SHARED_EXPONENT
        weight = weight and same and own
    return weight and shared and not scheme.global_scale and inputs % 64 == 0


def _exact(scheme: QuantScheme, dtype: str) -> bool:
    """Whether a code times its group's scale has no more bits than the type of the inputs."""
    if scheme.activation or scheme.granularity != "group" or scheme.weight not in _CODE_BITS:
        return False
    if scheme.scale not in _SCALE_BITS:
        return False
    bits = _CODE_BITS[scheme.weight] + _SCALE_BITS[scheme.scale]
    return bits <= _TYPE_BITS.get(dtype, 0)


def fp8_type(device: DeviceProps) -> str:
    """The 8-bit floating-point type that the device multiplies, "" for none."""
    for name in ("fp8_e4m3", "fp8_e4m3fnuz"):
        if f"{name}_gemm" in device.capabilities:
            return name
    return ""


def extra_bytes(
    scheme: QuantScheme, rows: int, inputs: int, dtype: str, device: DeviceProps
) -> int:
    """What the kernels keep beyond the canonical tensors of a weight: scales of rows are fp32, and
    fp8 scales of groups are of two bytes."""
    if not scheme.quantized:
        return 0
    extra = 0
    in_weight = recipe(scheme, dtype, inputs, device).in_weight
    if scheme.granularity in ("tensor", "channel") or scheme.global_scale or in_weight:
        extra += 4 * rows
    if scheme.granularity == "group" and scheme.scale == "fp8_e4m3":
        extra += rows * inputs // scheme.group
    return extra


def answer(scheme: QuantScheme, inputs: int, device: DeviceProps) -> Support:
    """Whether products of `inputs` inputs with a weight of this scheme can be computed."""
    for what, value, known in (
        ("weights are", scheme.weight, WEIGHTS),
        ("scales are", scheme.scale, SCALES),
        ("inputs are", scheme.activation or INPUTS[0], INPUTS),
        ("scales of inputs are", scheme.activation_scale, ("fp32", "ue8m0")),
    ):
        if value not in known:
            return Support.no(f"{what} {value}, there are {', '.join(known)}")
    return _shared(scheme, inputs) and _activation(scheme, device)


def _shared(scheme: QuantScheme, inputs: int) -> Support:
    """Whether steps over inputs end where scales do."""
    if scheme.packed == 2 and inputs % 2:
        return Support.no(f"{inputs} inputs, two share a byte")
    least = LEAST_BYTES if scheme.activation else LEAST_GROUP
    if scheme.granularity == "group":
        if inputs % scheme.group:
            return Support.no(
                f"{inputs} inputs, they must be a multiple of the group, {scheme.group}"
            )
        return _step("a scale", scheme.group, least)
    if scheme.granularity == "block":
        return _step("a scale", scheme.block[1], least)
    return Support.yes()


def _step(what: str, size: int, least: int) -> Support:
    if size < least or size & (size - 1):
        return Support.no(f"{size} inputs share {what}, it has powers of two from {least}")
    return Support.yes()


def _activation(scheme: QuantScheme, device: DeviceProps) -> Support:
    if not scheme.activation:
        return Support.yes()
    known = _MEETS[scheme.activation]
    if scheme.weight not in known:
        return Support.no(
            f"{scheme.weight} weights meet {scheme.activation} inputs, there are {', '.join(known)}"
        )
    if scheme.activation == "int8" and "int8" not in device.dtypes:
        return Support.no(f"inputs are int8, {device.name} does not multiply it")
    if scheme.activation == "fp8_e4m3" and not fp8_type(device):
        return Support.no(
            f"inputs are fp8_e4m3, {device.name} has neither fp8_e4m3_gemm nor fp8_e4m3fnuz_gemm"
        )
    if scheme.activation_scale == "ue8m0" and (
        scheme.activation != "fp8_e4m3" or not scheme.dynamic or _input(scheme) != "group"
    ):
        return Support.no("scales of inputs are ue8m0, it has them for groups of fp8_e4m3")
    if _input(scheme) != "group":
        return Support.yes()
    if scheme.reordered:
        return Support.no("inputs are permuted and quantized by groups, it has one or the other")
    return _step("a scale of inputs", scheme.activation_group, LEAST_BYTES)
