"""From a choice to a plain callable. After this, nothing looks anything up by name."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable
from typing import Any

from inferplane.spec import Candidate, Request

from .errors import ImportFailed
from .resolution import Choice


def load(candidate: Candidate) -> Callable[[Request], Any]:
    """The candidate's factory. Raises ImportFailed that names the candidate."""
    try:
        if not isinstance(candidate.load, str):
            return candidate.load()
        module, _, attribute = candidate.load.partition(":")
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise ImportFailed(
            f"kernel {candidate.name} ({candidate.load}) cannot be loaded: "
            f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
        ) from error


def make(candidate: Candidate, request: Request) -> Any:
    """The kernel itself."""
    return load(candidate)(request)


class ByTokens:
    """Calls one of several kernels by the number of rows of the first argument.

    table[min(M, len - 1)] is the kernel: one look-up by an integer.
    """

    __slots__ = ("last", "table")

    def __init__(self, kernels: list[tuple[int, Any]]) -> None:
        """kernels: (first token count, callable), in order; the last one has no end."""
        self.last = kernels[-1][0]
        self.table = []
        for (first, kernel), (end, _) in zip(
            kernels, [*kernels[1:], (self.last, None)], strict=True
        ):
            start = 0 if first == kernels[0][0] else first
            self.table += [kernel] * (end - start)
        self.table.append(kernels[-1][1])

    def __call__(self, x: Any, *arguments: Any) -> Any:
        rows = x.shape[0]
        return self.table[rows if rows < self.last else self.last](x, *arguments)


def bind(choice: Choice) -> Any:
    """The callable for a choice: the kernel itself, or a table over token ranges."""
    kernels = [(tokens.first, make(c, choice.request.over(tokens))) for tokens, c in choice.ranges]
    return kernels[0][1] if len(kernels) == 1 else ByTokens(kernels)
