"""One call of a kernel: its inputs on the host, what is right, and the call on the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from .target import Target
from .tensors import Guarded

Tensors = dict[str, torch.Tensor]


@dataclass
class Problem:
    """Host data of one call.

    inputs: float tensors in the kernel's dtype, and index tensors (int64, named in `indices`).
    expected: what is right, in fp64 or exact, by the name of a result or of a written argument.
    writes: arguments that the call may write. untouched: of written ones, the elements that must
    stay. state: what the suite places itself (a cache). length: terms of the longest sum.
    weights: for `prepare`. extra: the suite's own.
    """

    inputs: Tensors
    expected: Tensors
    indices: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    untouched: Tensors = field(default_factory=dict)
    state: Tensors = field(default_factory=dict)
    exact: frozenset[str] = frozenset()
    length: int = 1
    weights: Tensors = field(default_factory=dict)
    extra: Any = None


@dataclass
class Call:
    """A kernel with its inputs in place. run: the call itself, and nothing else.

    after: more tensors to look at when it is done (a cache), as host copies. prepared: what
    `prepare` gave, if the kernel has weights. renew: puts another problem's inputs in place.
    """

    arguments: dict[str, Guarded]
    run: Callable[[], Tensors]
    after: Callable[[], Tensors] = dict
    prepared: Any = None
    renew_more: Callable[[Problem], None] = lambda problem: None

    def renew(self, problem: Problem) -> None:
        """At the same addresses, so that a captured graph sees them."""
        for name, guarded in self.arguments.items():
            new = problem.inputs[name]
            guarded.view.copy_(new.to(guarded.view.dtype))
        self.renew_more(problem)


@dataclass
class Observed:
    """What a call left behind, on the host."""

    results: Tensors
    arguments: dict[str, Guarded]
    now: Tensors
    waits: list[str] = field(default_factory=list)

    def value(self, name: str) -> torch.Tensor | None:
        """A result, or a written argument, by name."""
        return self.results.get(name, self.now.get(name))


def place(problem: Problem, target: Target) -> dict[str, Guarded]:
    """The problem's inputs on the device, each between guards."""
    placed = {}
    device = torch.device("cpu") if target.inputs_on_host else target.torch_device
    for name, host in problem.inputs.items():
        wanted = host.to(target.index_type()) if name in problem.indices else host
        placed[name] = Guarded.around(wanted, device)
    return placed


def views(arguments: Mapping[str, Guarded]) -> Tensors:
    return {name: guarded.view for name, guarded in arguments.items()}
