"""Counter-based noise: a pure function of (seed, position, token id).

So a request samples the same tokens whatever its batch, its device, or how often it was preempted.
The mixer is the 32-bit finaliser of MurmurHash3 (A. Appleby, public domain), in int64 arithmetic so
that every device computes the same bits.
"""

from __future__ import annotations

import numpy as np
import torch

_MASK = 0xFFFFFFFF
_GOLDEN = 0x9E3779B9


def row_keys(seeds: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Two 32-bit keys a row, int64 [B, 2], from 64-bit seeds and token positions (splitmix64)."""
    with np.errstate(over="ignore"):
        x = seeds.astype(np.uint64) + positions.astype(np.uint64) * np.uint64(0xD1342543DE82EF95)
        x += np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    low, high = x & np.uint64(_MASK), x >> np.uint64(32)
    return np.stack([low, high], axis=-1).astype(np.int64)


def _mix(x: torch.Tensor) -> torch.Tensor:
    """In place on int64 tensors that hold 32-bit values."""
    x ^= x >> 16
    x *= 0x85EBCA6B
    x &= _MASK
    x ^= x >> 13
    x *= 0xC2B2AE35
    x &= _MASK
    x ^= x >> 16
    return x


def uniform(keys_B2: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """fp32 in (0, 1), shape of `ids` ([B, n] or [n] for all rows): odd multiples of 2^-24.

    23 bits, so that the half is exact in fp32: with 24, the largest would round to 1, whose noise
    is infinite.
    """
    x = (ids.long() * _GOLDEN + keys_B2[:, :1]) & _MASK
    x = _mix(x) ^ keys_B2[:, 1:]
    return ((_mix(x) >> 9).float() + 0.5) * 2.0**-23


def gumbel(keys_B2: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Gumbel noise: argmax(logits + noise) is a draw from softmax(logits)."""
    return -torch.log(-torch.log(uniform(keys_B2, ids)))
