"""Sees what a plugin writes into modules and classes that are not its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

Names = dict[str, dict[str, Any]]

_TORCH = ("torch", "torch.nn", "torch.nn.functional", "torch.distributed", "torch.autograd")
_TORCH_CLASSES = ("Tensor", "Module", "Parameter", "Generator")
# Python itself fills these in when a class is first used.
_FILLED_IN = {"__annotations__", "__abstractmethods__", "_abc_impl", "__doc__", "__dict__"}


def snapshot(prefix: str = "inferplane") -> Names:
    """Attributes of every imported module under `prefix`, and of the classes defined there."""
    found: Names = {}
    for name, module in list(sys.modules.items()):
        if isinstance(module, ModuleType) and (name == prefix or name.startswith(prefix + ".")):
            _add(found, name, module, name)
    return found


def torch_snapshot() -> Names:
    """The same for torch's public namespaces; empty where torch was not imported."""
    found: Names = {}
    for name in _TORCH:
        module = sys.modules.get(name)
        if module is None:
            continue
        found[name] = dict(vars(module))
        for kind in _TORCH_CLASSES:
            if isinstance(vars(module).get(kind), type):
                found[f"{name}.{kind}"] = dict(vars(vars(module)[kind]))
    return found


def _add(found: Names, name: str, module: ModuleType, prefix: str) -> None:
    found[name] = dict(vars(module))
    for key, value in vars(module).items():
        if isinstance(value, type) and value.__module__ == prefix:
            found[f"{name}.{key}"] = dict(vars(value))


def written(before: Names, after: Names, additions: bool = True) -> list[str]:
    """Names that were replaced, removed, or (additions) added, as "module.name".

    Modules that were imported in between are no writes, nor are lazily imported submodules.
    """
    found = []
    for owner, old in before.items():
        new = after.get(owner)
        if new is not None:
            found += [f"{owner}.{name}" for name in _changed(old, new, additions)]
    return sorted(found)


def _changed(old: Mapping[str, Any], new: Mapping[str, Any], additions: bool) -> Iterator[str]:
    missing = object()
    for name in old.keys() | new.keys():
        before, after = old.get(name, missing), new.get(name, missing)
        if before is after or name in _FILLED_IN:
            continue
        if isinstance(after, ModuleType) or (before is missing and name.startswith("__")):
            continue
        if before is missing and not additions:
            continue
        yield name
