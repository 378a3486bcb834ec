"""From a choice to a plain callable. After this, nothing looks anything up by name."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable
from typing import Any

from inferplane.errors import UserError
from inferplane.spec import Candidate, Request

from .errors import ImportFailed, KernelFailed
from .resolution import Choice, is_reference

Check = Callable[[Candidate, Request, Any], None]


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
            f"{type(error).__name__}: {error}{_without(candidate)}\n{traceback.format_exc()}"
        ) from error


def make(candidate: Candidate, request: Request) -> Any:
    """The kernel itself. Raises KernelFailed where its factory raises or gives nothing."""
    factory = load(candidate)
    try:
        kernel = factory(request)
    except UserError:
        raise
    except Exception as error:
        text = f"its factory raised {type(error).__name__}: {error}"
        raise failed(candidate, request, text) from error
    if kernel is None:
        raise failed(candidate, request, "its factory returned None, not a kernel")
    return kernel


def failed(candidate: Candidate, request: Request, what: str) -> KernelFailed:
    """An error that names the plugin and the kernel, and says how to go on without it."""
    load = candidate.load if isinstance(candidate.load, str) else repr(candidate.load)
    plugin = candidate.name.partition(".")[0]
    return KernelFailed(
        f"kernel {candidate.name} of plugin {plugin!r} ({load}) failed for {request.op} "
        f"{request.describe()}: {what}{_without(candidate)}"
    )


def _without(candidate: Candidate) -> str:
    if is_reference(candidate):
        return ""
    return f"; to go on without it: --kernel '{candidate.op}!={candidate.name}'"


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


def bind(choice: Choice, check: Check | None = None) -> Any:
    """The callable for a choice: the kernel itself, or a table over token ranges.

    check: is given each kernel once, with its candidate and request.
    """
    kernels = []
    for tokens, candidate in choice.ranges:
        request = choice.request.over(tokens)
        kernel = make(candidate, request)
        if check is not None:
            check(candidate, request, kernel)
        kernels.append((tokens.first, kernel))
    return kernels[0][1] if len(kernels) == 1 else ByTokens(kernels)
