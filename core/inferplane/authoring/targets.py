"""What a candidate's `load` names: there, missing, or not to be told here."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Collection
from pathlib import Path
from typing import Any

from inferplane.spec import Candidate

from .findings import Finding


def of_load(candidate: Candidate, own: Collection[str]) -> Finding | None:
    """own: top-level packages of the plugin. Imports what is loaded."""
    name, target = candidate.name, candidate.load
    if not isinstance(target, str):
        return _called(candidate)
    module, colon, attribute = target.partition(":")
    if not colon or not attribute:
        return Finding("IP205", name, f"load is {target!r}; write 'module:attribute'")
    try:
        loaded: Any = importlib.import_module(module)
    except ImportError as error:
        return _not_imported(name, module, attribute, own, error)
    except Exception as error:
        text = f"importing {module} raised {type(error).__name__}: {error}"
        return Finding("IP205", name, text)
    if not hasattr(loaded, attribute):
        return Finding("IP205", name, f"{module} has no {attribute!r}")
    if not callable(getattr(loaded, attribute)):
        return Finding("IP205", name, f"{target} is not callable; it must make a kernel")
    return None


def _called(candidate: Candidate) -> Finding | None:
    assert not isinstance(candidate.load, str)
    try:
        factory = candidate.load()
    except ImportError as error:
        return Finding("IP206", candidate.name, f"load needs what is not installed here: {error}")
    except Exception as error:
        text = f"load raised {type(error).__name__}: {error}"
        return Finding("IP205", candidate.name, text)
    return None if callable(factory) else Finding("IP205", candidate.name, "load gave no callable")


def _not_imported(
    name: str, module: str, attribute: str, own: Collection[str], error: ImportError
) -> Finding:
    missing = (error.name or "").split(".")[0]
    if missing in own or not missing:
        return Finding("IP205", name, f"{module} cannot be imported: {error}")
    if attribute not in _defined(module):
        text = f"{module} defines no {attribute!r} (read from its source: {error})"
        return Finding("IP205", name, text)
    return Finding("IP206", name, f"{module} needs {missing}, which is not installed here")


def _defined(module: str) -> set[str]:
    """Top-level names of a module, from its source."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return set()
    found: set[str] = set()
    for node in ast.walk(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
    return found
