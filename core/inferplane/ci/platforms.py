"""Which platforms there are: those that are installed, and those that the project declares.

Installed ones are read from the metadata of distributions. Whether an entry point is a platform or
only offers kernels is read from its module's source, so that no plugin is imported.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from inferplane.plugins.discovery import CORE_DISTRIBUTION, EntryPoint, entry_points
from inferplane.spec.version import ENTRY_POINT_GROUP

from .config import CiConfig, PlatformTable


@dataclass(frozen=True)
class Platform:
    """hardware: its jobs wait for a runner with the labels `runs_on`; no labels mean no runner."""

    name: str
    hardware: bool
    runs_on: tuple[str, ...]
    python: tuple[str, ...]
    install: tuple[str, ...]
    distribution: str = ""
    """What offers it here; "" where it is declared only."""


Found = Iterable[tuple[EntryPoint, str, str, str]]


def known_platforms(config: CiConfig, found: Found | None = None) -> dict[str, Platform]:
    """By name. A platform of the core runs anywhere; any other needs hardware unless declared so.

    found: entry points as `plugins.discovery.entry_points` gives them, which is the default.
    """
    installed = {
        entry.name: distribution
        for entry, group, distribution, _ in (entry_points() if found is None else found)
        if group == ENTRY_POINT_GROUP and not offers_only_kernels(entry.value)
    }
    names = sorted({*installed, *config.platforms})
    return {name: _platform(name, installed.get(name, ""), config) for name in names}


def _platform(name: str, distribution: str, config: CiConfig) -> Platform:
    table = config.platforms.get(name, PlatformTable())
    hardware = table.hardware
    if hardware is None:
        hardware = distribution != CORE_DISTRIBUTION
    default = ("self-hosted", name) if hardware else ("ubuntu-latest",)
    return Platform(
        name=name,
        hardware=hardware,
        runs_on=default if table.runs_on is None else table.runs_on,
        python=table.python or config.python,
        install=table.install,
        distribution=distribution,
    )


def offers_only_kernels(value: str) -> bool:
    """Whether a module is a feature plugin's. False where its source cannot be read."""
    path = _source(value.split(":")[0].strip())
    if path is None:
        return False
    try:
        names = _bound(ast.parse(path.read_text(encoding="utf-8")))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return False
    return "inferplane_feature" in names and "inferplane_platform" not in names


def _source(module: str) -> Path | None:
    """The file of a module. Its parents are not imported, unlike by `importlib.util.find_spec`."""
    places: Any = None
    spec: ModuleSpec | None = None
    name = ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        spec = _find(name, places)
        if spec is None:
            return None
        places = spec.submodule_search_locations
    origin = spec.origin if spec else None
    return Path(origin) if origin and origin.endswith(".py") else None


def _find(name: str, places: Any) -> ModuleSpec | None:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec = find(name, places) if find else None
        if spec is not None:
            return spec
    return None


def _bound(tree: ast.Module) -> set[str]:
    """Names that a module binds at its top level."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            names.update(t.id for t in node.targets if isinstance(t, ast.Name))
    return names
