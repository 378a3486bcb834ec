"""Compares fields and signatures as lock files hold them: as text."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Literal

Kind = Literal["added", "removed", "changed"]


def _parsed_fields(fields: Sequence[str]) -> dict[str, tuple[str, str | None, bool]]:
    """name -> (type, default, given by name only)."""
    found: dict[str, tuple[str, str | None, bool]] = {}
    by_name = False
    for text in fields:
        if text == "*":
            by_name = True
            continue
        name, _, rest = text.partition(": ")
        kind, equals, default = rest.partition(" = ")
        found[name] = (kind, default if equals else None, by_name)
    return found


def field_changes(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[Kind, str, str, str]]:
    """(kind, field, text, whom it breaks) for the fields of one dataclass."""
    before, after = _parsed_fields(old), _parsed_fields(new)
    for name, (kind, default, by_name) in after.items():
        if name not in before:
            yield _added(name, kind, default, by_name, last=name == list(after)[-1])
            continue
        old_kind, old_default, old_by_name = before[name]
        if kind != old_kind:
            text = f"type was {old_kind}, is {kind}"
            yield "changed", name, text, "plugins that set or read it"
        if default != old_default:
            if default is None:
                yield "changed", name, "has no default any more", "plugins that leave it out"
            else:
                was = "required" if old_default is None else f"{old_default} by default"
                breaks = "" if old_default is None else "plugins that leave it out"
                yield "changed", name, f"was {was}, is {default} by default", breaks
        if by_name and not old_by_name:
            yield "changed", name, "is given by name now", "plugins that give it by position"
    for name in before:
        if name not in after:
            yield "removed", name, "field removed", "plugins that set or read it"
    kept_old = [n for n, f in before.items() if n in after and not f[2]]
    kept_new = [n for n, f in after.items() if n in before and not f[2]]
    if kept_old != kept_new and set(kept_old) == set(kept_new):
        text = f"order was {', '.join(kept_old)}, is {', '.join(kept_new)}"
        yield "changed", kept_new[0], text, "plugins that give them by position"


def _added(
    name: str, kind: str, default: str | None, by_name: bool, last: bool
) -> tuple[Kind, str, str, str]:
    if default is None:
        return "added", name, f"new field of type {kind}, required", "plugins that construct it"
    breaks = "" if by_name or last else "plugins that give later fields by position"
    return "added", name, f"new field of type {kind}, {default} by default", breaks


def method_change(
    old: str | None, new: str | None, hook: bool, protocol: bool
) -> tuple[Kind, str, str] | None:
    """(kind, text, whom it breaks) for one method; None where it is the same.

    hook: pluggy passes a hook only the arguments that it names, so new ones break nobody.
    protocol: plugins implement all of it, so there is no default for a new method.
    """
    if old == new:
        return None
    if old is None:
        required = protocol and not hook
        what = "new hook" if hook else "new method, to be implemented" if required else "new method"
        return "added", f"{what} {new}", "plugins that implement it" if required else ""
    if new is None:
        whom = "plugins that implement it" if hook else "plugins that call or override it"
        return "removed", f"{'hook' if hook else 'method'} removed", whom
    return "changed", f"was {old}, is {new}", _whom(old, new, hook)


def _whom(old: str, new: str, hook: bool) -> str:
    before, after = _arguments(old), _arguments(new)
    if before is None or after is None:
        return "plugins that call or implement it"
    gone = [name for name in before if name not in after]
    if hook:
        if gone:
            return f"plugins whose hook names {', '.join(gone)}"
        same_result = old.rpartition("->")[2] == new.rpartition("->")[2]
        return "" if same_result else "plugins that implement it"
    fresh = [name for name in after if name not in before]
    if not gone and fresh and all(after[name] for name in fresh):
        return "plugins that override it without the new arguments"
    return "plugins that call or implement it"


def _arguments(signature: str) -> dict[str, bool] | None:
    """name -> whether it has a default; None where the text cannot be read."""
    text = signature[signature.find("(") :]
    try:
        (function,) = ast.parse(f"def f{text}: ...").body
    except SyntaxError:
        return None
    assert isinstance(function, ast.FunctionDef)
    given = function.args
    plain = [*given.posonlyargs, *given.args]
    defaults = [False] * (len(plain) - len(given.defaults)) + [True] * len(given.defaults)
    found = {a.arg: d for a, d in zip(plain, defaults, strict=True) if a.arg not in ("self", "cls")}
    for argument, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        found[argument.arg] = default is not None
    return found
