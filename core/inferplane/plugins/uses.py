"""Which names of the contract a plugin uses, read from its source without running it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inferplane.spec import HOOK_PREFIX

_SPEC = "inferplane.spec"


@dataclass
class Uses:
    """names: imported from the contract. hooks: implemented. ops: that it offers kernels for.

    fields: "Name.field", given by keyword to a name of the contract; attributes: read anywhere.
    unreadable: files that could not be read, with the reason.
    """

    names: set[str] = field(default_factory=set)
    hooks: set[str] = field(default_factory=set)
    ops: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    unreadable: list[str] = field(default_factory=list)

    def touches(self, root: str) -> bool:
        """Whether a change of this name, hook or op is about the plugin."""
        return root in self.names or root in self.hooks or root in self.ops

    def mentions(self, name: str) -> bool:
        """Whether the plugin uses `name`: a name, a hook, an op, or "Name.field"."""
        owner, _, part = name.partition(".")
        if part and not self.touches(name):
            return name in self.fields or (owner in self.names and part in self.attributes)
        return self.touches(name)


def uses_of(module: Any, ops: Iterable[str] = ()) -> Uses:
    """What the plugin with this entry-point module uses. Its whole package is read."""
    found = Uses(ops=set(ops))
    found.hooks = {name for name in dir(module) if name.startswith(HOOK_PREFIX)}
    for path in source_files(module):
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        except (OSError, SyntaxError, UnicodeDecodeError) as error:
            found.unreadable.append(f"{path}: {error}")
            continue
        _read(tree, found)
    return found


def source_files(module: Any) -> list[Path]:
    """Python files of the package that holds the entry point; a lone module is one file.

    A plugin may be an object instead of a module: then the module of its class counts.
    """
    file = getattr(module, "__file__", None) or _file_of_class(module)
    if not file or not str(file).endswith(".py"):
        return []
    path = Path(file)
    package = (path.parent / "__init__.py").exists()
    return sorted(path.parent.rglob("*.py")) if package else [path]


def _file_of_class(module: Any) -> str | None:
    try:
        return inspect.getsourcefile(type(module))
    except TypeError:
        return None


def _read(tree: ast.AST, found: Uses) -> None:
    named: dict[str, str] = {}  # local name -> name in the contract
    modules: set[str] = set()  # local names of the contract itself
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                if (node.module or "").split(".")[:2] == _SPEC.split("."):
                    named[alias.asname or alias.name] = alias.name
                elif f"{node.module}.{alias.name}" == _SPEC:
                    modules.add(alias.asname or alias.name)
        elif isinstance(node, ast.Import):
            modules |= {a.asname for a in node.names if a.name == _SPEC and a.asname}
    found.names |= set(named.values())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id in modules:
                found.names.add(node.attr)
            found.attributes.add(node.attr)
        elif isinstance(node, ast.Call):
            called = node.func
            name = named.get(called.id) if isinstance(called, ast.Name) else None
            if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
                name = called.attr if called.value.id in modules else None
            if name:
                found.fields |= {f"{name}.{k.arg}" for k in node.keywords if k.arg}
