"""Sees a synchronisation while a kernel is called.

Two ways to wait are seen: torch operations that bring a value of the device to the host, and the
driver's own `synchronize`. A vendor library that waits inside of its own code is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from inferplane.spec import Device

_READS = {"_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "item"}


class _Reads(TorchDispatchMode):
    """Notes operations whose result the host must wait for."""

    def __init__(self, device: torch.device, seen: list[str]) -> None:
        super().__init__()
        self.kind, self.seen = device.type, seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.__name__.split(".")[0]
        inputs = tree_leaves((args, kwargs))
        read = any(self._on_device(value) for value in inputs)
        if read and name in _READS:
            self.seen.append(f"aten::{name}")
        result = func(*args, **kwargs)
        if read and self.kind != "cpu" and any(map(_on_host, tree_leaves(result))):
            self.seen.append(f"aten::{name} to the host")
        return result

    def _on_device(self, value: Any) -> bool:
        return isinstance(value, torch.Tensor) and value.device.type == self.kind


def _on_host(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.device.type == "cpu"


@contextmanager
def waits(device: Device) -> Iterator[list[str]]:
    """Collects what waited for the device, by name."""
    seen: list[str] = []
    real = device.synchronize
    modules = [torch.accelerator]
    if device.torch_type != "cpu":
        modules.append(torch.get_device_module(device.torch_type))
    kept = [(m, m.synchronize) for m in modules if hasattr(m, "synchronize")]

    def note(name: str, function: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            seen.append(name)
            return function(*arguments, **named)

        return call

    device.synchronize = note("Device.synchronize", real)  # type: ignore[method-assign]
    for module, function in kept:
        module.synchronize = note(f"{module.__name__}.synchronize", function)
    try:
        with _Reads(device.torch_device, seen):
            yield seen
    finally:
        del device.synchronize
        for module, function in kept:
            module.synchronize = function
