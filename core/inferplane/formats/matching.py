"""Which modules a checkpoint's lists of names mean: names, parts of names, wildcards, patterns."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import translate
from functools import cache

from inferplane.errors import UserError

ROUTERS = ("gate", "router")
"""Last names of modules that files with class names do not mean by "Linear"."""

_LONGEST, _MOST_REPEATS = 500, 8


def class_of(module: str) -> str:
    """The class that files call a module by, from its path. Experts that are stacked in one tensor
    are no linear layers."""
    owner, _, last = module.rpartition(".")
    if owner.endswith(".experts"):
        return "Experts"
    if last == "embed_tokens":
        return "Embedding"
    if last.endswith("norm"):
        return "Norm"
    return "Router" if last in ROUTERS else "Linear"


@cache
def pattern(text: str, where: str) -> re.Pattern[str]:
    """A compiled pattern. Raises UserError for one that is broken, or that could take for ever."""
    if len(text) > _LONGEST or not _harmless(text):
        raise UserError(
            f"{where} has the pattern {text[:80]!r}, which could take too long to match"
        )
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise UserError(f"{where} has the pattern {text!r}, which is broken: {error}") from None


def _harmless(text: str) -> bool:
    """No repetition of a repetition, and few of them: what makes matching slow on long names."""
    bare = re.sub(r"\\.|\[\^?\]?[^\]]*\]", "x", text)
    repeats, groups = 0, [False]  # of each open group: whether it holds a repetition
    for at, letter in enumerate(bare):
        following = bare[at + 1 : at + 2]
        if letter == "(":
            groups.append(False)
        elif letter == ")" and len(groups) > 1:
            inner = groups.pop()
            if inner and following and following in "*+{":
                return False
            groups[-1] |= inner
        elif letter in "*+{":
            repeats += 1
            groups[-1] = True
    return repeats <= _MOST_REPEATS


def matches(module: str, text: str, where: str) -> bool:
    """Whether a module is meant by its whole name, or by a pattern after "re:"."""
    if text.startswith("re:"):
        return pattern(text[3:], where).match(module) is not None
    return text == module


@cache
def _wildcard(text: str) -> re.Pattern[str]:
    return re.compile(translate(text))


def wildcard(module: str, text: str) -> bool:
    """Whether `*` and `?` in a text mean a module, or one that it lies in."""
    return _short(text) and any(
        _wildcard(text).match(name) is not None for name in _with_owners(module)
    )


def _with_owners(module: str) -> list[str]:
    """ "a.b.c" -> "a.b.c", "a.b", "a"."""
    names = module.split(".")
    return [".".join(names[:count]) for count in range(len(names), 0, -1)]


def listed(module: str, names: Iterable[str]) -> bool:
    """Whether a list of names means a module: by its name, by one that it lies in, by a run of
    names inside it ("self_attn.o_proj", "lm_head"), or by wildcards."""
    dotted = f".{module}."
    return any(f".{name}." in dotted or ("*" in name and wildcard(module, name)) for name in names)


class Names:
    """A list of names as `listed` reads it, for models with very many modules."""

    def __init__(self, names: Iterable[str]) -> None:
        names = tuple(names)
        self.plain = frozenset(name for name in names if not _is_wild(name))
        wild = [name for name in names if _is_wild(name) and _short(name)]
        self.wild = re.compile("|".join(map(translate, wild))) if wild else None

    def __contains__(self, module: str) -> bool:
        words = module.split(".")
        ends = range(1, len(words) + 1)
        if self.plain and any(
            ".".join(words[first:end]) in self.plain for end in ends for first in range(end)
        ):
            return True
        wild = self.wild
        return wild is not None and any(wild.match(name) for name in _with_owners(module))


def _is_wild(name: str) -> bool:
    return "*" in name or "?" in name


def _short(name: str) -> bool:
    return len(name) <= _LONGEST and name.count("*") <= _MOST_REPEATS
