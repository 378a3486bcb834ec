"""One `pytest.mark.ci(...)` in a syntax tree, read as data."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

from inferplane.errors import nearest

MARK = "ci"
ANY = "*"
"""As the one platform of a mark: every platform there is."""


@dataclass(frozen=True)
class Place:
    """A piece of one line of a source. line counts from 1; start and end are bytes, as in `ast`."""

    line: int
    start: int
    end: int


@dataclass(frozen=True)
class Mark:
    """What a mark says. None: left out, so an outer mark or the suite says it."""

    line: int
    platforms: tuple[str, ...] | None = None
    suite: str | None = None
    est_seconds: float | None = None
    nightly: bool | None = None
    estimate_at: Place | None = None

    def inside(self, outer: Mark | None) -> Mark:
        """This mark, with what it leaves out taken from the mark around it; never its estimate."""
        if outer is None:
            return self
        return Mark(
            line=self.line,
            platforms=outer.platforms if self.platforms is None else self.platforms,
            suite=outer.suite if self.suite is None else self.suite,
            est_seconds=self.est_seconds,
            nightly=outer.nightly if self.nightly is None else self.nightly,
            estimate_at=self.estimate_at,
        )


ARGUMENTS = tuple(f.name for f in fields(Mark) if f.name not in ("line", "estimate_at"))
Tell = Callable[[int, str, str], None]
"""(line, kind, message)"""


def is_mark(node: ast.AST, name: str) -> bool:
    """Whether `node` is `pytest.mark.NAME` or `mark.NAME`, without a call."""
    if not isinstance(node, ast.Attribute) or node.attr != name:
        return False
    of = node.value
    return (isinstance(of, ast.Attribute) and of.attr == "mark") or (
        isinstance(of, ast.Name) and of.id == "mark"
    )


def has_mark(nodes: list[ast.expr], name: str) -> bool:
    """Whether one of the marks is `mark.NAME`, called or not."""
    return any(is_mark(n.func if isinstance(n, ast.Call) else n, name) for n in nodes)


def read_mark(call: ast.Call, tell: Tell) -> Mark:
    """The mark's literals. What cannot be used is told, and left out."""
    values: dict[str, Any] = {}
    place = None
    if call.args:
        tell(call.lineno, "not-literal", f"mark.ci takes keywords only: {', '.join(ARGUMENTS)}")
    for name, node in _arguments(call, tell):
        value = _literal(name, node, tell)
        if value is not None:
            values[name] = value
        if name == "est_seconds" and value is not None and node.lineno == node.end_lineno:
            place = Place(node.lineno, node.col_offset, node.end_col_offset or 0)
    if "est_seconds" not in {keyword.arg for keyword in call.keywords}:
        message = "est_seconds is missing: say how many seconds these tests take"
        tell(call.lineno, "estimate", message)
    return Mark(line=call.lineno, estimate_at=place, **values)


def _arguments(call: ast.Call, tell: Tell) -> Iterator[tuple[str, ast.expr]]:
    for keyword in call.keywords:
        if keyword.arg is None:
            tell(call.lineno, "not-literal", "mark.ci is read without running: write no ** in it")
        elif keyword.arg not in ARGUMENTS:
            hint = nearest(keyword.arg, ARGUMENTS)
            known = ", ".join(ARGUMENTS)
            tell(call.lineno, "argument", f"mark.ci has no {keyword.arg!r}{hint}; it has {known}")
        else:
            yield keyword.arg, keyword.value


def _literal(name: str, node: ast.expr, tell: Tell) -> Any:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        shown = ast.unparse(node)
        message = f"{name}={shown} is no literal; marks are read without running the file"
        tell(node.lineno, "not-literal", message)
        return None
    wrong = _wrong(name, value)
    if wrong:
        kind = "estimate" if name == "est_seconds" else "argument"
        tell(node.lineno, kind, f"{name}={value!r}: {wrong}")
        return None
    return tuple(value) if name == "platforms" else value


def _wrong(name: str, value: Any) -> str:
    """What is wrong with a value, or ""."""
    if name == "platforms":
        words = isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)
        if not words:
            return 'it must be a list of names, as ["cpu"]'
        if ANY in value and len(value) > 1:
            return f'"{ANY}" means every platform, so it stands alone'
        return "a platform is named twice" if len(set(value)) < len(value) else ""
    if name == "suite":
        return "" if isinstance(value, str) else "it must be a name"
    if name == "nightly":
        return "" if isinstance(value, bool) else "it must be True or False"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "it must be a number of seconds"
    return "" if 0 < value < math.inf else "it must be more than 0"
