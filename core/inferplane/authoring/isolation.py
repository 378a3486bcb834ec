"""Runs a plugin's code where it may import and read nothing but itself, and notes what it tried.

For a process of its own only: an audit hook cannot be taken out again, and the clock and the
environment are replaced. Needs no torch; must be set up before the plugin is imported.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import Any

import importlib_metadata

# What pure code may import beside the standard library and itself: the contract, and what every
# process that plans has imported anyway.
ALLOWED = (
    "inferplane",
    "pluggy",
    "importlib_metadata",
    "typing_extensions",
    "typing_inspection",
    "pydantic",
    "pydantic_core",
    "pydantic_settings",
    "annotated_types",
    "yaml",
)
_MACHINERY = ("importlib", "_frozen_importlib", "runpy")
_AUDITED = {
    "open": "opens {}",
    "os.listdir": "lists {}",
    "os.scandir": "lists {}",
    "os.putenv": "sets the variable {}",
    "os.system": "runs {}",
    "subprocess.Popen": "runs {}",
    "socket.connect": "connects to the network",
    "socket.getaddrinfo": "asks the network",
    "ctypes.dlopen": "loads the library {}",
}
_CLOCKS = ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")
_CHANCE = ("random", "randint", "randrange", "choice", "uniform", "getrandbits")


def own_packages(entry: str, distribution: str) -> frozenset[str]:
    """Top-level modules that the plugin's distribution ships, and the one of its entry point."""
    found = {entry.partition(":")[0].split(".")[0]}
    try:
        files = importlib_metadata.distribution(distribution).files or ()
    except importlib_metadata.PackageNotFoundError:
        files = ()
    tops = {str(f).split("/")[0].removesuffix(".py") for f in files if str(f).endswith(".py")}
    return frozenset(found | {top for top in tops if top.isidentifier()})


def allowed(module: str, own: frozenset[str]) -> bool:
    """Whether pure code of this plugin may import a module."""
    top = module.split(".")[0]
    return top in sys.stdlib_module_names or top in ALLOWED or top in own


class Blocked(ImportError):
    """An import that pure code may not do."""


class Blocker(MetaPathFinder):
    """Refuses imports of everything that is not allowed. refused: their names, in order."""

    def __init__(self, own: frozenset[str]) -> None:
        self.own = own
        self.refused: list[str] = []

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if allowed(name, self.own) or _by_a_library(self.own):
            return None
        self.refused.append(name)
        raise Blocked(f"import of {name!r} (not allowed here: inferplane plugin check)")


class Recorder:
    """Notes what code reads beside its arguments. On only inside of `watch`."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.on = False

    def install(self) -> None:
        """Once a process, before the plugin is imported."""
        sys.addaudithook(self._audit)
        for name in _CLOCKS:
            setattr(time, name, self._noted(getattr(time, name), f"reads the clock: time.{name}"))
        for name in _CHANCE:
            found = self._noted(getattr(random, name), f"draws a random number: random.{name}")
            setattr(random, name, found)
        environment: Any = type(os.environ)
        read = environment.__getitem__

        def getitem(mapping: Any, key: str) -> str:
            self.note(f"reads the environment variable {key}")
            value: str = read(mapping, key)
            return value

        environment.__getitem__ = getitem

    def _noted(self, function: Callable[..., Any], text: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self.note(text)
            return function(*arguments, **named)

        return call

    def note(self, text: str) -> None:
        if self.on and text not in self.seen:
            self.seen.append(text)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event in _AUDITED and not _in_import():
            self.note(_AUDITED[event].format(arguments[0] if arguments else ""))

    @contextmanager
    def watch(self) -> Iterator[list[str]]:
        """What the code inside reads is in the list afterwards."""
        self.seen = []
        self.on = True
        try:
            yield self.seen
        finally:
            self.on = False


def _by_a_library(own: frozenset[str]) -> bool:
    """Whether the import is done by an allowed library, or by what such a library imports."""
    frame = sys._getframe(2)
    while frame is not None:
        top = str(frame.f_globals.get("__name__", "")).split(".")[0]
        if top in own or top == "inferplane":
            return False
        if top in ALLOWED or (top in sys.stdlib_module_names and top not in _MACHINERY):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _in_import() -> bool:
    """Whether the interpreter is importing: then files are opened on behalf of `import`."""
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
