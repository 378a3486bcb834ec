"""What the installed torch was built for, read from its file `version.py` without importing it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path


def torch_build(folder: Path | None = None) -> Mapping[str, str]:
    """Names and texts of torch's `version.py`: `__version__`, and the version of each vendor's
    toolkit that this build has, by torch's own name for it; toolkits that it lacks are left out.

    Takes about a millisecond, where importing torch takes seconds; so a probe can say why there is
    no device, and a command that only plans needs no torch. Empty where torch is not installed.
    folder: of the package, for tests.
    """
    if folder is None:
        found = find_spec("torch")
        if found is None or not found.origin:
            return {}
        folder = Path(found.origin).parent
    try:
        tree = ast.parse((folder / "version.py").read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return {}
    values: dict[str, str] = {}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        value = getattr(node, "value", None)
        text = value.value if isinstance(value, ast.Constant) else None
        for target in targets:
            if isinstance(target, ast.Name) and isinstance(text, str):
                values[target.id] = text
    return values
