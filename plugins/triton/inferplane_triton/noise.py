"""The contract's counter-based noise (`inferplane.reference.noise`), as device functions.

The mixer is the 32-bit finaliser of MurmurHash3 (A. Appleby, public domain).
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def mix(x):
    """uint32 -> uint32; products wrap."""
    x = x ^ (x >> 16)
    x = x * 0x85EBCA6B
    x = x ^ (x >> 13)
    x = x * 0xC2B2AE35
    return x ^ (x >> 16)


@triton.jit
def log(x):
    """Natural logarithm of positive normal fp32 numbers, to about one unit in the last place.

    Devices' own logarithms are absolute approximations near 1, just where the largest noise comes
    from. Method and coefficients: Cephes logf (S. Moshier).
    """
    bits = x.to(tl.int32, bitcast=True)
    exponent = ((bits >> 23) - 126).to(tl.float32)
    part = ((bits & 0x007FFFFF) | 0x3F000000).to(tl.float32, bitcast=True)  # in [1/2, 1)
    small = part < 0.70710678118654752
    exponent = tl.where(small, exponent - 1.0, exponent)
    f = tl.where(small, part + part, part) - 1.0
    z = f * f
    y = 7.0376836292e-2 * f - 1.1514610310e-1
    y = y * f + 1.1676998740e-1
    y = y * f - 1.2420140846e-1
    y = y * f + 1.4249322787e-1
    y = y * f - 1.6668057665e-1
    y = y * f + 2.0000714765e-1
    y = y * f - 2.4999993993e-1
    y = y * f + 3.3333331174e-1
    y = y * f * z - 2.12194440e-4 * exponent - 0.5 * z
    return (f + y) + 0.693359375 * exponent


@triton.jit
def gumbel(ids, first_key, second_key):
    """Noise of tokens `ids` (uint32) of a row with these keys (uint32)."""
    x = mix(ids * 0x9E3779B9 + first_key) ^ second_key
    uniform = ((mix(x) >> 9).to(tl.float32) + 0.5) * 1.1920928955078125e-07
    return -log(-log(uniform))
