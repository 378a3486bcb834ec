"""Which kernel a step's error came out of, from its traceback."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

from inferplane.spec import Candidate

from .resolution import Choice


def blame(error: BaseException, choices: Iterable[Choice]) -> str:
    """ "raised in MODULE, which serves NAME (OP), ..." for the innermost frame that belongs to a
    chosen kernel's module; "" where there is none. A device that works asynchronously may report
    an error later than the call that caused it."""
    served: dict[str, set[str]] = {}
    for choice in choices:
        for _, candidate in choice.ranges:
            served.setdefault(_module(candidate), set()).add(f"{candidate.name} ({candidate.op})")
    found = ""
    frame: TracebackType | None = error.__traceback__
    while frame is not None:
        name = frame.tb_frame.f_globals.get("__name__", "")
        if name in served:
            found = name
        frame = frame.tb_next
    return f"raised in {found}, which serves {', '.join(sorted(served[found]))}" if found else ""


def _module(candidate: Candidate) -> str:
    if isinstance(candidate.load, str):
        return candidate.load.partition(":")[0]
    return getattr(candidate.load, "__module__", "")
