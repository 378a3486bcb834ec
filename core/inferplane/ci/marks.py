"""Reads the `ci` marks of a test file from its source. Nothing is imported or run.

A mark stands at module level (`pytestmark = ...`), on a class, or on a test; the inner one
overrides what it says, for the tests it covers. `est_seconds` is about those tests alone.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import NamedTuple

from .literals import MARK, Mark, has_mark, is_mark, read_mark
from .problems import Problem

NIGHTLY = "nightly"
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Entry:
    """One mark, with what outer marks say, and the tests it covers.

    scope: "" for the module's mark, else the class or test, as in pytest's ids: "TestX::test_y".
    tests: names of tests found in the source; inherited and generated ones are not there.
    """

    scope: str
    mark: Mark
    tests: tuple[str, ...]


class Unmarked(NamedTuple):
    name: str
    line: int


@dataclass
class Reading:
    """All that one file says."""

    entries: list[Entry] = field(default_factory=list)
    unmarked: list[Unmarked] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


@dataclass
class _Scope:
    """Where the reader is: its name, the mark that holds there, and what that mark covers."""

    name: str = ""
    mark: Mark | None = None
    nightly: bool = False  # the plain marker `nightly` is set here or around
    covers: list[str] = field(default_factory=list)


def read(source: str | bytes, path: str) -> Reading:
    """Raises nothing for what is in the file: what is wrong is in `problems`."""
    reading = Reading()
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 0
        reading.problems.append(Problem(path, line, "syntax", f"cannot be parsed: {error}"))
        return reading
    _Reader(path, reading).module(tree)
    reading.entries.sort(key=lambda entry: entry.mark.line)
    return reading


class _Reader:
    def __init__(self, path: str, reading: Reading) -> None:
        self.path = path
        self.reading = reading
        self.used: set[int] = set()  # ids of the nodes of marks that were read

    def tell(self, line: int, kind: str, message: str) -> None:
        self.reading.problems.append(Problem(self.path, line, kind, message))

    def module(self, tree: ast.Module) -> None:
        outside = _Scope()
        scope = self.enter("", self.assigned(tree.body), outside, line=1)
        found = self.tests(tree.body, scope)
        if scope is not outside and (scope.covers or not found):
            self.add(scope)
        for node in ast.walk(tree):
            if is_mark(node, MARK) and id(node) not in self.used:
                line = getattr(node, "lineno", 0)
                message = (
                    "this ci mark cannot be read: write pytestmark = pytest.mark.ci(...) at the "
                    "top level, or @pytest.mark.ci(...) on a test or a class"
                )
                self.tell(line, "not-literal", message)

    def tests(self, body: list[ast.stmt], scope: _Scope) -> bool:
        """Reads the tests of a module or class. Whether there were any."""
        found = False
        for node in body:
            if isinstance(node, _Function) and node.name.startswith("test"):
                self.test(node, scope)
                found = True
            elif isinstance(node, ast.ClassDef) and _is_test_class(node):
                self.test_class(node, scope)
                found = True
        return found

    def test(self, node: _Function, outer: _Scope) -> None:
        name = _join(outer.name, node.name)
        scope = self.enter(name, list(node.decorator_list), outer, node.lineno)
        scope.covers.append(name)
        if scope is not outer:
            self.add(scope)
        elif scope.mark is None:
            self.reading.unmarked.append(Unmarked(name, node.lineno))

    def test_class(self, node: ast.ClassDef, outer: _Scope) -> None:
        name = _join(outer.name, node.name)
        marks = [*node.decorator_list, *self.assigned(node.body)]
        scope = self.enter(name, marks, outer, node.lineno)
        inner = scope
        if scope is outer:  # no mark of its own: what it covers is the outer mark's
            inner = _Scope(name, outer.mark, outer.nightly or has_mark(marks, NIGHTLY))
            inner.covers = outer.covers
        found = self.tests(node.body, inner)
        if not found:  # its tests are inherited
            inner.covers.append(name)
        if scope is not outer and scope.covers:
            self.add(scope)
        elif scope.mark is None and not found:
            self.reading.unmarked.append(Unmarked(name, node.lineno))

    def enter(self, name: str, marks: list[ast.expr], outer: _Scope, line: int) -> _Scope:
        """The scope of a module, class or test: `outer` itself where it has no ci mark."""
        calls = [node for node in marks if isinstance(node, ast.Call) and is_mark(node.func, MARK)]
        own = [read_mark(call, self.tell) for call in calls]
        self.used.update(id(call.func) for call in calls)
        nightly = outer.nightly or has_mark(marks, NIGHTLY)
        if len(own) > 1:
            message = f"two ci marks on the same {'test' if name else 'file'}: keep one"
            self.tell(own[1].line, "duplicate", message)
        scope = outer
        if own:
            scope = _Scope(name, own[0].inside(outer.mark), nightly)
        new = bool(own) or has_mark(marks, NIGHTLY)
        if new and nightly and scope.mark is not None and not scope.mark.nightly:
            self.tell(
                own[0].line if own else line,
                "nightly",
                f"{name or 'the file'} has the marker nightly, but its ci mark is for every "
                "commit: add @pytest.mark.ci(nightly=True, est_seconds=...)",
            )
        return scope

    def assigned(self, body: list[ast.stmt]) -> list[ast.expr]:
        """The marks of `pytestmark = ...` in a body."""
        marks: list[ast.expr] = []
        seen = False
        for node in body:
            value = _pytestmark(node)
            if value is None:
                continue
            if seen:
                message = "pytestmark is assigned twice, so the first one is lost: use one list"
                self.tell(node.lineno, "duplicate", message)
            seen = True
            marks += value.elts if isinstance(value, ast.List | ast.Tuple) else [value]
        return marks

    def add(self, scope: _Scope) -> None:
        assert scope.mark is not None
        self.reading.entries.append(Entry(scope.name, scope.mark, tuple(scope.covers)))


def _pytestmark(node: ast.stmt) -> ast.expr | None:
    """What is assigned, where the statement is `pytestmark = ...`."""
    targets = node.targets if isinstance(node, ast.Assign) else []
    if isinstance(node, ast.AnnAssign):
        targets = [node.target]
    if not any(isinstance(t, ast.Name) and t.id == "pytestmark" for t in targets):
        return None
    return node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None


def _join(outer: str, name: str) -> str:
    return f"{outer}::{name}" if outer else name


def _is_test_class(node: ast.ClassDef) -> bool:
    bases = {ast.unparse(base).rsplit(".", 1)[-1] for base in node.bases}
    return node.name.startswith("Test") or "TestCase" in bases
