"""Numbers of 4 or 8 bits in 32-bit words, and 4-bit ones in bytes. Words are little-endian, as
safetensors stores them. Torch inside functions only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from inferplane.spec.quantized import pack, unpack

if TYPE_CHECKING:
    import torch


def bytes_of(words: torch.Tensor) -> torch.Tensor:
    """int32 [R, W] -> uint8 [R, 4W], the low byte of a word first."""
    import torch

    return words.contiguous().view(torch.uint8)


def along_rows(words: torch.Tensor, bits: int) -> torch.Tensor:
    """int32 [R, W], each word 32/bits neighbours of its row, low bits first -> uint8 codes
    [R, 32W/bits]."""
    found = bytes_of(words)
    return unpack(found) if bits == 4 else found


def interleaved(words: torch.Tensor, order: Sequence[int]) -> torch.Tensor:
    """4-bit codes whose words hold eight neighbours in another order: place i of a word, low bits
    first, has the neighbour order[i]. int32 [R, W] -> uint8 codes [R, 8W]."""
    places = [order.index(neighbour) for neighbour in range(8)]
    return along_rows(words, 4).unflatten(-1, (-1, 8))[..., places].flatten(-2)


def canonical(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """uint8 codes [N, K] as `spec.quant` keeps them."""
    return pack(codes) if bits == 4 else codes


def swap_halves(packed: torch.Tensor) -> torch.Tensor:
    """uint8 with the first number in the high half <-> with the first number in the low half."""
    return (packed >> 4) | (packed << 4)
