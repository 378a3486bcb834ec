"""The hooks that a plugin's module implements: checked by name, then registered with pluggy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pluggy

from inferplane.errors import nearest
from inferplane.spec import HOOK_PREFIX, PROJECT, InferplaneSpecs, hookimpl
from inferplane.spec.deprecated import DEPRECATED, Deprecation

from .errors import BadHook

KNOWN_HOOKS = frozenset(n for n in vars(InferplaneSpecs) if n.startswith(HOOK_PREFIX))
_MARK = f"{PROJECT}_impl"


def hook_problems(module: Any, table: Mapping[str, Deprecation] = DEPRECATED) -> list[str]:
    """Every misspelt and every unmarked hook of a module."""
    found = []
    for name in dir(module):
        if not name.startswith(HOOK_PREFIX):
            continue
        if name not in KNOWN_HOOKS and name not in table:
            found.append(f"there is no hook {name}{nearest(name, KNOWN_HOOKS)}")
        elif not hasattr(getattr(module, name), _MARK):
            found.append(f"{name} lacks the @hookimpl mark, so nothing calls it")
    return found


def implemented(manager: pluggy.PluginManager) -> list[str]:
    """The hooks that a registered plugin implements, by their present names."""
    return sorted(n for n in KNOWN_HOOKS if getattr(manager.hook, n).get_hookimpls())


def register(
    label: str, name: str, module: Any, table: Mapping[str, Deprecation] = DEPRECATED
) -> pluggy.PluginManager:
    """A manager with this plugin alone. Raises BadHook that lists everything that is wrong.

    A hook that was renamed in this minor version is registered under its new name.
    """
    problems = hook_problems(module, table)
    if problems:
        raise BadHook(f"{label}: {'; '.join(problems)}")
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(InferplaneSpecs)
    old = {n: table[n].use for n in dir(module) if n in table and n.startswith(HOOK_PREFIX)}
    specs = {name: getattr(InferplaneSpecs, new) for name, new in old.items()}
    if specs:
        manager.add_hookspecs(type("OldSpecs", (), specs))
    try:
        manager.register(module, name=name)
        for before, new in old.items():
            if not hasattr(module, new):
                renamed = _Renamed(new, hookimpl(getattr(module, before)))
                manager.register(renamed, name=f"{name}.{new}")
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise BadHook(f"{label}: {error}") from error
    return manager


class _Renamed:
    """Holds one hook under its new name."""

    def __init__(self, name: str, function: Any) -> None:
        setattr(self, name, function)
