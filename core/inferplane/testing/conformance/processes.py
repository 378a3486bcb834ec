"""The same plugins in another process."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any

from importlib_metadata import EntryPoint

from inferplane.plugins.catalog import Catalog
from inferplane.plugins.discovery import Plugin, discover
from inferplane.plugins.selection import Selection
from inferplane.spec import DeviceProps

Described = list[tuple[str, str, str, str, str]]


def describe(plugins: list[Plugin]) -> Described:
    """What another process needs to open them."""
    return [(p.name, p.value, p.group, p.distribution, p.version) for p in plugins if p.ready]


def importable(plugins: list[Plugin]) -> str:
    """ "" or why another process could not open them (plugins that a test made on the spot)."""
    for plugin in plugins:
        if plugin.ready and plugin.value not in sys.modules:
            return f"{plugin.label} is no module that another process can import"
    return ""


def reopen(described: Described, platform: str, devices: tuple[DeviceProps, ...]) -> Catalog:
    """The catalog of the platform, with no look for devices."""
    found = [
        (EntryPoint(name, value, group), group, distribution, version)
        for name, value, group, distribution, version in described
    ]
    plugins = discover(found=found)  # all were allowed where they were described
    for plugin in plugins:
        if plugin.platform and plugin.platform.name == platform:
            if plugin.error:
                raise plugin.error
            return Catalog(plugins, Selection(plugin, devices, "conformance", planning=True))
    raise RuntimeError(f"{platform} is not among the plugins: {[p.label for p in plugins]}")


def environment() -> dict[str, str]:
    """Of a child: this process's path, and one thread."""
    path = os.pathsep.join(p for p in sys.path if p)
    return {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": path}


def save(path: Path, value: Any) -> None:
    path.write_bytes(pickle.dumps(value))


def load(path: str) -> Any:
    """Only of files that `save` of the parent process wrote."""
    return pickle.loads(Path(path).read_bytes())
