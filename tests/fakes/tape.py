"""A graph back-end over torch's dispatcher: what was recorded is done again, in the same tensors.

As on a real device, Python does not run in a replay, and no memory may be asked for while it is
recorded (results of operations come from the back-end's own pool).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

_ALLOCATES = {"empty", "zeros", "ones", "full", "zeros_like", "empty_like", "new_zeros"}


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[Any, Any, Any, list[Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        if name in _ALLOCATES:
            raise RuntimeError(f"aten::{name} while a graph is recorded")
        result = func(*args, **(kwargs or {}))
        self.steps.append((func, args, kwargs or {}, tree_flatten(result)[0]))
        return result


class Tape:
    def __init__(self, steps: list[Any]) -> None:
        self.steps = steps

    def replay(self) -> None:
        for func, args, kwargs, outputs in self.steps:
            again = tree_flatten(func(*args, **kwargs))[0]
            for kept, new in zip(outputs, again, strict=True):
                if isinstance(kept, torch.Tensor) and kept.data_ptr() != new.data_ptr():
                    kept.copy_(new)


class TapeBackend:
    def __init__(self, request: Any) -> None:
        self.request = request

    def capture(self, run: Callable[[], None]) -> Tape:
        with _Recorder() as recorder:
            run()
        return Tape(recorder.steps)
