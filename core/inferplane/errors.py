"""Errors that are the user's to mend. They say what was asked, what exists, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Shown without a traceback: the message is all that a user needs."""


class EngineDead(UserError):
    """The engine cannot go on, since its device is lost. Build a new one."""


_CLOSE = 0.6


def nearest(word: str, known: Iterable[str], cutoff: float = _CLOSE) -> str:
    """ " (did you mean 'x'?)" for the closest known word, or "".
    cutoff: how close, up to 1. At its default, a word that begins with `word` will do as well."""
    names = list(known)
    close = get_close_matches(word, names, n=1, cutoff=cutoff)
    if not close and cutoff == _CLOSE:
        close = [name for name in names if word and name.startswith(word)]
    return f" (did you mean {close[0]!r}?)" if close else ""
