"""What becomes `torch.sim`: torch's usual functions of a device module."""

from __future__ import annotations

import types
from typing import Any

import torch

from . import streams
from .driver import SimBoard, driver


class SimModule(types.ModuleType):
    """Functions take a device index, a `torch.device`, or None for the current device."""

    Event = streams.Event

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def device_count(self) -> int:
        return len(driver().boards)

    def current_device(self) -> int:
        return driver().current().index

    def set_device(self, device: Any) -> None:
        driver().set_current(_board(device).index)

    def synchronize(self, device: Any = None) -> None:
        _board(device).synchronize()

    # memory

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        memory = _board(device).memory
        return memory.free, memory.total

    def memory_allocated(self, device: Any = None) -> int:
        return _board(device).memory.used

    def max_memory_allocated(self, device: Any = None) -> int:
        return _board(device).memory.peak

    def reset_peak_memory_stats(self, device: Any = None) -> None:
        _board(device).memory.reset_peak()

    def empty_cache(self) -> None:
        """Freed memory is given back at once: there is nothing to do."""

    # streams

    def Stream(self, device: Any = None, priority: int = 0, **_: Any) -> streams.Stream:
        return _board(device).new_stream(priority)

    def current_stream(self, device: Any = None) -> streams.Stream:
        return _board(device).stream

    def default_stream(self, device: Any = None) -> streams.Stream:
        return _board(device).default_stream

    def stream(self, stream: streams.Stream) -> streams.Stream:
        """For `with torch.sim.stream(s):`."""
        return stream

    # random numbers: the host's generator draws them

    def manual_seed_all(self, seed: int) -> None:
        """torch seeds the host's generator itself."""

    manual_seed = manual_seed_all

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        torch.set_rng_state(state)

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [d for d in (torch.float16, torch.bfloat16) if d in driver().current().dtypes]


def _board(device: Any) -> SimBoard:
    if device is None:
        return driver().current()
    if isinstance(device, int):
        return driver().current() if device < 0 else driver().board(device)
    index = torch.device(device).index
    return driver().current() if index is None else driver().board(index)
