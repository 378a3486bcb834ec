"""Tensors with guards around them, comparison by bits, and errors against fp64."""

from __future__ import annotations

from dataclasses import dataclass

import torch

_GUARD_ROWS = 128  # so that what lies between stays aligned to 128 elements
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bits(x: torch.Tensor) -> torch.Tensor:
    """The same memory as integers, so that NaN equals NaN and 0 differs from -0."""
    return x.contiguous().view(_BITS[x.element_size()])


def bits_of(x: torch.Tensor) -> torch.dtype:
    """The integers that have the size of its elements."""
    return _BITS[x.element_size()]


def nan_bits(dtype: torch.dtype) -> int:
    """A NaN of the type, as `bits_of` shows it. Types of 8 bits cannot be filled with one."""
    return int(bits(torch.tensor([float("nan")]).to(dtype)))


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(bits(a), bits(b))


def canary(dtype: torch.dtype) -> float | int | bool:
    """What guards hold: NaN, which spreads when it is read, or an index far out of any range."""
    if dtype.is_floating_point:
        return float("nan")
    return True if dtype == torch.bool else -77


@dataclass
class Guarded:
    """A tensor on the device that lies between two guards. view: what the kernel gets."""

    whole: torch.Tensor
    view: torch.Tensor
    original: torch.Tensor  # on the host, of `whole`

    @classmethod
    def around(cls, host: torch.Tensor, device: torch.device) -> Guarded:
        shape = (host.shape[0] + 2 * _GUARD_ROWS, *host.shape[1:])
        whole = torch.full(shape, canary(host.dtype), dtype=host.dtype)
        whole[_GUARD_ROWS : _GUARD_ROWS + host.shape[0]] = host
        placed = whole.clone() if device.type == "cpu" else whole.to(device)
        view = placed[_GUARD_ROWS : _GUARD_ROWS + host.shape[0]]
        return cls(placed, view, whole)

    def now(self) -> torch.Tensor:
        """The view's values, on the host."""
        return self._host()[_GUARD_ROWS:-_GUARD_ROWS]

    def before(self) -> torch.Tensor:
        """The view's values as they were placed."""
        return self.original[_GUARD_ROWS:-_GUARD_ROWS]

    def outside_is_whole(self) -> bool:
        """Whether nothing was written to the guards."""
        now = self._host()
        return same(now[:_GUARD_ROWS], self.original[:_GUARD_ROWS]) and same(
            now[-_GUARD_ROWS:], self.original[-_GUARD_ROWS:]
        )

    def _host(self) -> torch.Tensor:
        return self.whole.clone() if self.whole.device.type == "cpu" else self.whole.cpu()


def error(found: torch.Tensor, right: torch.Tensor) -> float:
    """The largest error as a share of the largest right value; infinite where one is no number."""
    if found.numel() == 0:
        return 0.0
    found, right = found.to(torch.float64), right.to(torch.float64)
    difference = (found - right).abs()
    difference[(found == right) | (found.isnan() & right.isnan())] = 0.0
    if not bool(difference.isfinite().all()):
        return float("inf")
    finite = right[right.isfinite()]
    scale = float(finite.abs().max()) if finite.numel() else 0.0
    return float(difference.max()) / (scale or 1.0)


def worst(found: torch.Tensor, right: torch.Tensor) -> str:
    """Where the largest error is, for a message."""
    difference = (found.to(torch.float64) - right.to(torch.float64)).abs()
    difference = torch.nan_to_num(difference, nan=float("inf"))
    at = int(difference.argmax())
    place = tuple(int(i) for i in torch.unravel_index(torch.tensor(at), difference.shape))
    return (
        f"at {place} it is {found.flatten()[at].item():.6g}, not {right.flatten()[at].item():.6g}"
    )
