"""How large an error may be, by op and dtype, and why.

An error is |found - right| as a share of the largest right value of the tensor, where right comes
from the reference in fp64 over the kernel's own inputs. A bound has two terms:

    roundings * u(dtype)  +  8 * sqrt(K) * u(fp32)

u is the unit roundoff: half the distance from 1 to the next number. The first term counts how often
a value is rounded to the op's dtype on its way through a right kernel. The second is the growth of
rounding errors over a sum of K products in fp32: sqrt(K) for errors that go either way, 8 standard
deviations wide so that no right kernel meets it. Sums are kept in fp32 or wider whatever the dtype
is, so a kernel that adds up in a half type exceeds the bound as soon as K is in the hundreds.
"""

from __future__ import annotations

from math import sqrt

UNIT = {
    "fp64": 2.0**-53,
    "fp32": 2.0**-24,
    "fp16": 2.0**-11,
    "bf16": 2.0**-8,
    "fp8_e4m3": 2.0**-4,
    "fp8_e4m3fnuz": 2.0**-4,
    "fp8_e5m2": 2.0**-3,
}
"""Unit roundoff, from the significand bits of IEEE 754 types, bfloat16 and OCP 8-bit floats."""

ROUNDINGS: dict[str, tuple[float, str]] = {
    "linear": (2, "the bias may be added to the rounded sum, then the result is rounded"),
    "linear.quantized": (4, "as linear, after weight and input were rounded to the dtype"),
    "linear.heads": (1, "the result"),
    "moe.route": (12, "exp, the sum of all, the quotient, the sum of the chosen, the factor"),
    "moe.experts": (14, "weight, gate and up, five of the activation, weight, down, share, sum"),
    "embedding": (1, "a row is copied; a scale rounds once"),
    "norm.rms": (3, "the normed value, its product with the weight, the result"),
    "norm.add_rms": (4, "as norm.rms, after the sum of x and residual was rounded"),
    "rotary": (5, "cosine and sine, two products, their sum"),
    "activation.gated": (5, "gate's function, up, and their product; exp is 2 units wide in fp32"),
    "kv.write": (1, "stored in the cache's type"),
    "attention": (6, "scaled queries, scores' weights, the parts' join, the result"),
    "attention.input": (8, "q/k norm, then rotary"),
    "attention.block": (24, "projection, input, attention, projection, each as above"),
    "mlp.block": (12, "projection, activation, projection, each as above"),
    "layer": (40, "two norms, attention block, MLP block, and sums of the residual"),
    "sample": (64, "log-probabilities in fp32: exp and log of a sum over the vocabulary"),
}
"""Op -> (roundings to the op's dtype, which)."""

STEPS = {
    "": 0.0,
    "int8": 2.0**-7,
    "int4": 2.0**-3,
    "fp8_e4m3": 2.0**-4,
    "fp8_e4m3fnuz": 2.0**-4,
    "fp8_e5m2": 2.0**-3,
    "fp4_e2m1": 2.0**-2,
}
"""The step of a type next to its largest value, as a share of it. What is quantized between two
projections was rounded before, so that two right kernels may give a value to either side of a step;
the error of a sum of many such values, which are smaller than their largest, is below one step."""

GROWTH = 8.0
"""Standard deviations that the error of a sum may be away from none."""


def bound(op: str, dtype: str, length: int = 1) -> float:
    """The largest error allowed. length: terms of the longest sum, K."""
    unit = UNIT[dtype]
    wide = min(unit, UNIT["fp32"])
    return ROUNDINGS[op][0] * unit + GROWTH * sqrt(length) * wide


def activation_step(activation: str) -> float:
    """Allowed beside the bound where a value is quantized that a kernel has computed itself."""
    return STEPS[activation]
