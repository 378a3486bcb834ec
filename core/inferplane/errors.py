"""Errors that are the user's to mend. They say what was asked, what exists, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Shown without a traceback: the message is all that a user needs."""


class EngineDead(UserError):
    """The engine cannot go on, since its device is lost. Build a new one."""


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """ " (did you mean 'x'?)" for the closest known word, or else one that begins with it, or "".
    cutoff: how close, up to 1."""
    names = list(known)
    close = get_close_matches(word, names, n=1, cutoff=cutoff)
    close = close or [name for name in names if word and name.startswith(word)]
    return f" (did you mean {close[0]!r}?)" if close else ""
