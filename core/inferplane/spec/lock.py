"""The contract as data, so that no signature changes by accident.

`python -m inferplane.spec.lock --write` writes locks/MAJOR.MINOR.json; a test compares the two.
Any change needs a new `SPEC_VERSION`, since plugins were built for the old signatures. Locks of
earlier versions stay: they are what `inferplane plugin diff` compares.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import inferplane.spec as spec

LOCKS = Path(__file__).with_name("locks")
LOCK = LOCKS / "{}.{}.json".format(*spec.SPEC_VERSION)


def describe() -> dict[str, Any]:
    """Every public name (fields, defaults, signatures, constants), every op, and the version."""
    names = sorted(set(spec.__all__) - {"OPS", "SPEC_VERSION"})
    return {
        "version": list(spec.SPEC_VERSION),
        "names": {name: _public(getattr(spec, name)) for name in names},
        "ops": {op: _row(schema) for op, schema in sorted(spec.OPS.items())},
    }


def _public(value: Any) -> Any:
    if inspect.isclass(value):
        ours = value.__module__.startswith(spec.__name__)
        return _class(value) if ours else value.__name__
    if inspect.isfunction(value):
        return _signature(value)
    return _value(value)


def _class(kind: type) -> dict[str, Any]:
    if issubclass(kind, Enum):
        return {"members": {member.name: member.value for member in kind}}
    found: dict[str, Any] = {"bases": [base.__name__ for base in kind.__bases__]}
    if dataclasses.is_dataclass(kind):
        parameters = kind.__dataclass_params__  # type: ignore[attr-defined]
        found["frozen"] = parameters.frozen
        found["fields"] = _fields(kind)
    methods = {name: _method(member) for name, member in vars(kind).items() if _ours(kind, name)}
    found["methods"] = {name: text for name, text in sorted(methods.items()) if text}
    return found


def _ours(kind: type, name: str) -> bool:
    """Public methods, calls, and constructors that were written rather than generated."""
    if name == "__init__":
        generated = dataclasses.is_dataclass(kind) or getattr(kind, "_is_protocol", False)
        return not generated
    return name == "__call__" or not name.startswith("_")


def _method(member: Any) -> str:
    if isinstance(member, property):
        assert member.fget is not None
        return "property " + _signature(member.fget)
    if isinstance(member, classmethod | staticmethod):
        return f"{type(member).__name__} {_signature(member.__func__)}"
    return _signature(member) if inspect.isfunction(member) else ""


def _signature(function: Any) -> str:
    signature = inspect.signature(function)
    parameters = [
        p.replace(annotation=_Text(p.annotation), default=_default(p.default))
        for p in signature.parameters.values()
    ]
    result = _Text(signature.return_annotation)
    return str(signature.replace(parameters=parameters, return_annotation=result))


class _Text:
    """An annotation, written as in the source, whether or not it was evaluated."""

    def __new__(cls, annotation: Any) -> Any:
        return annotation if annotation is inspect.Parameter.empty else super().__new__(cls)

    def __init__(self, annotation: Any) -> None:
        self.text = _type(annotation)

    def __repr__(self) -> str:
        return self.text


def _default(value: Any) -> Any:
    return value if value is inspect.Parameter.empty else _Text(_value(value))


def _fields(kind: type) -> list[str]:
    """In order; those behind "*" are given by name."""
    found = []
    for field in dataclasses.fields(kind):
        if field.kw_only and "*" not in found:
            found.append("*")
        text = f"{field.name}: {_type(field.type)}"
        if field.default is not dataclasses.MISSING:
            text += f" = {_value(field.default)}"
        elif field.default_factory is not dataclasses.MISSING:
            text += f" = {getattr(field.default_factory, '__name__', '?')}()"
        found.append(text)
    return found


def _type(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return text.replace("typing.", "")


def _value(value: Any) -> str:
    """A constant. Sets and mappings are sorted, objects that hold no data are named by type,
    functions by their name."""
    if inspect.isfunction(value):
        return value.__name__
    if isinstance(value, frozenset | set):
        return "{" + ", ".join(sorted(map(repr, value))) + "}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k!r}: {_value(v)}" for k, v in sorted(value.items())) + "}"
    text = repr(value)
    return type(value).__name__ if " at 0x" in text else text.replace("typing.", "")


def _row(schema: spec.OpSchema) -> dict[str, Any]:
    row = dataclasses.asdict(schema)
    return {**row, "request": schema.request.__name__, "mutates": list(schema.mutates)}


def as_text() -> str:
    """The lock file's text for the code as it is."""
    return json.dumps(describe(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        LOCK.write_text(as_text(), encoding="utf-8")
    else:
        sys.stdout.write(as_text())
